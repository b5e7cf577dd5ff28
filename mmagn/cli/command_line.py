"""What every script shares: parse, run, and turn a foreseen failure into one sentence and an exit code."""

import logging
import os
import sys
from collections.abc import Callable

TRACEBACK_VARIABLE = "MMAGN_TRACEBACK"
"""Environment variable that shows the traceback behind a one-sentence error."""


def exit_code(action: Callable[[], int | None]) -> int:
    """Run a script's action and return its exit code.

    What the action returns, or 0; 2 with one sentence on standard error where the input or a setting is at fault
    (``ValueError``, ``OSError``); 130 on Ctrl-C. Any other exception is a defect and keeps its traceback.
    """
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    for talkative in ("urllib3", "httpx", "httpx2"):
        logging.getLogger(talkative).setLevel(logging.ERROR)
    try:
        return action() or 0
    except (ValueError, OSError) as error:
        if os.environ.get(TRACEBACK_VARIABLE):
            raise
        sys.stderr.write(f"error: {' '.join(str(error).split())}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("interrupted\n")
        return 130
