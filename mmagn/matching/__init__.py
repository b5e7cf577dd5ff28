"""Matching: who is who on the sphere, pairs, their store on disk and their split by sky."""
