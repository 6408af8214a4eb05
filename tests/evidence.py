"""Write docs/evidence.md: each promise of the project, and how a test shows it. Made from the tests' markers."""

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

NOT_SHOWN = (
    "`make quickstart` uses the GPUs that it finds",
    "Collectives over NCCL, CUDA kernels, memory and speed on GPUs, `make setup KEEP_TORCH=1` with a CUDA build",
    "Pretraining ViT-B/16 + BERT-base to its end (two steps of every shipped configuration run, on CPU)",
    "The paper's tables of the quickstart's model by protocol `clean`: every cell above its untrained twin's and with an interval, 100 % of "
    "the labels not worse than 1 % (`test_the_papers_tables` of the drill is written, and has not been run)",
    "Loading encoders by their hub name (local folders in the same format are loaded)",
)
"""Built for, and run by nobody yet."""

ROOT = Path(__file__).resolve().parents[1]
TARGET = ROOT / "docs" / "evidence.md"
HOW = {
    "cpu": "run on CPU in one process",
    "gloo": "run on CPU with several processes over gloo",
    "traced": "traced without running",
    "slurm": "run on a real Slurm, two nodes on one machine without GPUs",
}
DRILL = ", by `make drill`"
"""Added where CI does not run the test."""
PARTLY = ", partly by `make drill`"
"""Added where CI does not run some of the test's cases."""
HEAD = """# What msvl promises, and how it is shown

Made by `make evidence` from the `evidence` markers of the tests; a test compares it with them.

| promise | shown by | how |
| --- | --- | --- |
"""


def render() -> str:
    """Return the page."""
    rows: dict[tuple[str, str], list[str]] = defaultdict(list)
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        for promise, how, name in markers(path):
            rows[promise, how].append(f"`{path.relative_to(ROOT)}::{name}`")
    lines = [f"| {promise} | {', '.join(tests)} | {how} |" for (promise, how), tests in sorted(rows.items())]
    lines += [f"| {promise} | | not shown |" for promise in NOT_SHOWN]
    return HEAD + "\n".join(lines) + "\n"


def markers(path: Path) -> list[tuple[str, str, str]]:
    """Return (promise, how, name) of the tests in a file that show a promise."""
    found = []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    drill = any(ast.unparse(node).startswith("pytestmark = ") and _slow(node) for node in tree.body)
    # What a parametrisation names (a list, a function that yields cases) may hold the slow ones.
    slow_names = {
        name
        for node in tree.body
        if isinstance(node, ast.Assign | ast.AnnAssign | ast.FunctionDef) and _slow(node)
        for name in _names(node)
        if not name.startswith("test_")
    }
    for node in ast.walk(tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        slow = drill or any(ast.unparse(decorator) == "pytest.mark.slow" for decorator in node.decorator_list)
        partly = any(
            isinstance(decorator, ast.Call)
            and ast.unparse(decorator.func) == "pytest.mark.parametrize"
            and (
                _slow(decorator) or slow_names & {word.id for word in ast.walk(decorator) if isinstance(word, ast.Name)}
            )
            for decorator in node.decorator_list
        )
        for decorator in node.decorator_list:
            if isinstance(decorator, ast.Call) and ast.unparse(decorator.func) == "pytest.mark.evidence":
                how = next(ast.literal_eval(word.value) for word in decorator.keywords if word.arg == "how")
                where = DRILL if slow else PARTLY if partly else ""
                found.append((ast.literal_eval(decorator.args[0]), HOW[how] + where, node.name))
    return found


def _slow(node: ast.AST) -> bool:
    return any(isinstance(word, ast.Attribute) and ast.unparse(word) == "pytest.mark.slow" for word in ast.walk(node))


def _names(node: ast.Assign | ast.AnnAssign | ast.FunctionDef) -> list[str]:
    if isinstance(node, ast.FunctionDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


if __name__ == "__main__":
    TARGET.write_text(render(), encoding="utf-8")
    sys.stdout.write(f"{TARGET}\n")
