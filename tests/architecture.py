"""Structure of the package, counted from its imports: ``python tests/architecture.py`` prints it."""

import ast
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "mmagn"


def modules() -> dict[str, Path]:
    """Path of each module by its dotted name below the package; ``__init__`` files carry the name of their folder."""
    files = sorted(PACKAGE.rglob("*.py"))
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports(path: Path) -> Iterator[str]:
    """Modules of the package that a module imports when it runs, inside functions too, but not for type checking."""
    pending: list[ast.AST] = [ast.parse(path.read_text(encoding="utf-8"))]
    while pending:
        node = pending.pop()
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.startswith("mmagn"))
        elif isinstance(node, ast.ImportFrom) and (node.module or "").startswith("mmagn"):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        pending += ast.iter_child_nodes(node)


def arrows() -> dict[str, set[str]]:
    """Modules that each module imports."""
    known = modules()
    graph: dict[str, set[str]] = {name: set() for name in known}
    for name, path in known.items():
        for target in imports(path):
            target = target if target in known else target.rpartition(".")[0]
            if target in known and target not in (name, "mmagn"):
                graph[name].add(target)
    del graph["mmagn"]
    return graph


def room(module: str) -> str:
    """Room of a module: the folder or file at the top of the package that it lies in."""
    return module.split(".")[1]


def room_arrows() -> dict[str, set[str]]:
    """Rooms that each room imports from."""
    graph: dict[str, set[str]] = defaultdict(set)
    for module, targets in arrows().items():
        graph[room(module)] |= {room(target) for target in targets} - {room(module)}
    return dict(graph)


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """Groups of nodes that import each other, directly or not: Tarjan's strongly connected components above size 1."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph.get(node, ()):
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            group = stack[stack.index(node) :]
            del stack[stack.index(node) :]
            if len(group) > 1:
                found.append(sorted(group))

    for node in graph:
        if node not in index:
            visit(node)
    return found


def floors(graph: dict[str, set[str]]) -> dict[str, int]:
    """Floor of each room of a graph without circles: 0 where it imports from no other room, else one above the rest."""
    heights: dict[str, int] = {}

    def height(node: str) -> int:
        if node not in heights:
            heights[node] = 1 + max((height(target) for target in graph.get(node, ())), default=-1)
        return heights[node]

    for node in graph:
        height(node)
    return heights


def report() -> str:
    """Rooms, floors, arrows, circles and lines in a few lines of text."""
    graph, names = room_arrows(), modules()
    heights = floors(graph)
    lines = {name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in names.items()}
    levels = [
        sorted(name for name, floor in heights.items() if floor == level) for level in range(max(heights.values()) + 1)
    ]
    return "\n".join(
        [
            f"rooms {len(graph)}, floors {len(levels)}, arrows between rooms {sum(map(len, graph.values()))}",
            f"circles between rooms {len(circles(graph))}, between modules {len(circles(arrows()))}",
            f"modules {len(names)}, lines {sum(lines.values())}, longest {max(lines.values())}",
            *(f"floor {level}: {', '.join(rooms)}" for level, rooms in enumerate(levels)),
        ]
    )


if __name__ == "__main__":
    sys.stdout.write(report() + "\n")
