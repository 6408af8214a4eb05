"""Every collective of the package stands in msvl/collectives and is announced to the recorder: read from the source."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch.distributed as dist

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "msvl" / "collectives"
COLLECTIVES = {
    "all_gather", "all_gather_coalesced", "all_gather_into_tensor", "all_gather_object", "all_gather_single", "all_reduce",
    "all_reduce_coalesced", "all_to_all", "all_to_all_single", "barrier", "batch_isend_irecv", "broadcast",
    "broadcast_object_list", "gather", "gather_object", "irecv", "isend", "monitored_barrier", "recv", "recv_object_list",
    "reduce", "reduce_scatter", "reduce_scatter_single", "reduce_scatter_tensor", "scatter", "scatter_object_list", "send",
    "send_object_list",
}  # fmt: skip
"""What of torch.distributed talks to other ranks."""
MODULES = ("torch.distributed", "deepspeed.comm", "accelerate.utils.operations")
"""Where collectives can be had."""
METHODS = {"gather_for_metrics", "pad_across_processes", "wait_for_everyone"}
"""Of accelerate's Accelerator; its `gather` and `reduce` have the names of tensor methods and are seen on `accelerator`."""
ELSEWHERE = {
    "msvl/training/gradcheck/processes.py": {"torch.distributed", "init_process_group"},
    "msvl/training/cli.py": {"torch.distributed"},  # asks whether it was imported, to know who prints an error
}
"""File -> what it may name; `engine.py` starts its group by accelerate."""


def named(tree: ast.AST) -> set[str]:
    """Return the modules of MODULES that the code names, and what it takes of them or calls like a collective."""
    found: set[str] = set()
    aliases = {"dist", "c10d", "comm", *MODULES}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            for module, alias in _imported(node):
                found.add(module)
                aliases.add(alias)
        elif isinstance(node, ast.Constant) and node.value in MODULES:
            found.add(str(node.value))
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            owner = ast.unparse(node.value)
            if owner in aliases:
                found |= {node.attr} | ({owner} & set(MODULES))
            if node.attr in METHODS or (owner.endswith("accelerator") and node.attr in COLLECTIVES):
                found.add(node.attr)
    return found


def _imported(node: ast.Import | ast.ImportFrom) -> Iterator[tuple[str, str]]:
    """Yield what an import brings of MODULES, by its whole name, and the name that it gets."""
    for item in node.names:
        whole = item.name if isinstance(node, ast.Import) else f"{node.module}.{item.name}"
        if whole.startswith(MODULES):
            yield whole, item.asname or item.name


def unannounced(tree: ast.AST) -> list[str]:
    """Return the calls of collectives, in words, that no `announce` stands right before in the same function."""
    faults = []
    for function in ast.walk(tree):
        if not isinstance(function, ast.FunctionDef) or function.name == "_compare":
            continue
        renamed = {
            target.id
            for node in ast.walk(function)
            if isinstance(node, ast.Assign) and _takes_a_collective(node.value)
            for target in node.targets
            if isinstance(target, ast.Name)
        }
        told = False
        calls = [node for node in ast.walk(function) if isinstance(node, ast.Call)]
        for call in sorted(calls, key=lambda node: (node.lineno, node.col_offset)):
            name = ast.unparse(call.func)
            if name == "announce":
                told = True
            elif name in renamed or (name.startswith("dist.") and name[5:] in COLLECTIVES):
                if not told:
                    faults.append(f"line {call.lineno}: {name}")
                told = False
    return faults


def _takes_a_collective(value: ast.AST) -> bool:
    words = {node.attr for node in ast.walk(value) if isinstance(node, ast.Attribute)}
    words |= {node.value for node in ast.walk(value) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    return "dist" in {node.id for node in ast.walk(value) if isinstance(node, ast.Name)} and bool(words & COLLECTIVES)


def sources(inside: bool) -> list[Path]:
    return [path for path in sorted((ROOT / "msvl").rglob("*.py")) if path.is_relative_to(FOLDER) is inside]


@pytest.mark.evidence(
    "No file outside msvl/collectives calls a collective, and each one inside is announced", how="cpu"
)
def test_no_other_file_talks_to_other_ranks() -> None:
    found = {str(path.relative_to(ROOT)): named(ast.parse(path.read_text(encoding="utf-8"))) for path in sources(False)}
    assert {path: names for path, names in found.items() if names} == ELSEWHERE


def test_no_collective_goes_past_the_recorder() -> None:
    trees = {path.name: ast.parse(path.read_text(encoding="utf-8")) for path in sources(True)}
    assert {name: unannounced(tree) for name, tree in trees.items()} == {name: [] for name in trees}
    # The import is always of the one form that `unannounced` knows.
    for name, tree in trees.items():
        assert named(tree) == set() or "import torch.distributed as dist" in ast.unparse(tree), name


def test_the_list_of_collectives_is_whole() -> None:
    words = ("all_to", "barrier", "broadcast", "gather", "irecv", "isend", "recv", "reduce", "scatter", "send")
    public = dist.distributed_c10d.__all__
    found = {name for name in public if name.islower() and any(word in name for word in words)}
    assert found - {"reduce_op"} == COLLECTIVES


@pytest.mark.parametrize(
    "code",
    [
        "import torch.distributed as dist\ndist.all_reduce(x)",
        "import torch.distributed\ntorch.distributed.all_reduce(x)",
        "import torch\ntorch.distributed.all_reduce(x)",
        "from torch import distributed as d\nd.barrier()",
        "from torch.distributed import all_gather",
        "from torch.distributed.nn.functional import all_gather",
        "from deepspeed import comm",
        "from accelerate.utils.operations import gather",
        "self.accelerator.gather(x)",
        "accelerator.wait_for_everyone()",
        "sys.modules['torch.distributed']",
    ],
)
def test_a_call_elsewhere_would_be_found(code: str) -> None:
    assert named(ast.parse(code))


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        (["announce('all_reduce sum', x)", "dist.all_reduce(x)"], 0),
        (["dist.all_reduce(x)"], 1),
        (["announce('all_reduce sum', x)", "dist.all_reduce(x)", "dist.barrier()"], 1),
        (["run = getattr(dist, 'all_gather_single', None) or dist.all_gather_into_tensor", "run(y, x)"], 1),
        (["dist.get_rank()"], 0),
    ],
)
def test_a_silent_call_inside_would_be_found(lines: list[str], found: int) -> None:
    assert len(unannounced(ast.parse("def f(x, y):\n " + "\n ".join(lines)))) == found
