"""Imports without torch's compiler, each in a process of its own: what is imported stays."""

import subprocess
import sys
from pathlib import Path

PREAMBLE = """
import sys, torch
from perturbflow.machine.without_compiler import without_compiler

def compiler_is_there():
    return "torch._dynamo" in sys.modules

def compiles():
    network = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.ReLU())
    images = torch.arange(6.0).reshape(2, 3)
    graphs = []
    def backend(graph, inputs):
        graphs.append(graph)
        return graph.forward
    return torch.equal(torch.compile(network, backend=backend)(images), network(images)) and len(graphs) == 1
"""


def run(repository: Path, tmp_path: Path, body: str) -> None:
    """Run `body`, all of whose assertions must hold, after PREAMBLE."""
    script = tmp_path / "script.py"
    script.write_text(PREAMBLE + body, encoding="utf-8")
    finished = subprocess.run(
        [sys.executable, script], env={"PYTHONPATH": str(repository)}, capture_output=True, text=True
    )
    assert finished.returncode == 0, finished.stderr


def test_timm_comes_without_the_compiler_which_works_afterwards(repository: Path, tmp_path: Path) -> None:
    body = """
with without_compiler():
    import timm
assert not compiler_is_there() and "torch._dynamo.utils" not in sys.modules and "sympy" not in sys.modules
network = timm.create_model("resnet18", num_classes=2).eval()
network(torch.zeros(1, 3, 32, 32))
assert not compiler_is_there()
assert compiles() and compiler_is_there()
images = torch.ones(1, 3, 32, 32)
torch.testing.assert_close(torch.compile(network, backend="eager")(images), network(images))
"""
    run(repository, tmp_path, body)


def test_what_torchvision_asks_the_compiler_is_asked_later(repository: Path, tmp_path: Path) -> None:
    body = """
with without_compiler():
    from torchvision.ops import roi_align
box = [torch.tensor([[0.0, 0.0, 4.0, 4.0]])]
assert roi_align(torch.ones(1, 3, 8, 8), box, 2).eq(1).all()
from torchvision.ops.roi_align import is_compile_supported
later = is_compile_supported("cpu")
from torch._dynamo.utils import is_compile_supported
assert later == is_compile_supported("cpu")
"""
    run(repository, tmp_path, body)


def test_what_is_decorated_meanwhile_is_not_compiled(repository: Path, tmp_path: Path) -> None:
    body = """
with without_compiler():
    @torch.compiler.disable
    def double(x):
        assert not torch.compiler.is_compiling()
        return 2 * x

    @torch.compiler.disable(recursive=False)
    def treble(x):
        assert not torch.compiler.is_compiling()
        return 3 * x
assert not compiler_is_there()
assert torch.compiler.disable.__module__ == "torch.compiler"
compiled = torch.compile(lambda x: double(x) + treble(x), backend="eager")
assert torch.equal(compiled(torch.ones(2)), torch.full((2,), 5.0))
assert double(1) == 2 and treble(1) == 3 and compiles()
"""
    run(repository, tmp_path, body)


def test_whoever_asks_for_more_gets_the_compiler(repository: Path, tmp_path: Path) -> None:
    for statement in (
        "from torch._dynamo.utils import counters",
        "import torch._dynamo",
        "import torch._dynamo.config",
        "from torch._dynamo import config, utils",
        "torch._dynamo.reset()",
        "assert compiles()",
    ):
        body = f"""
with without_compiler():
    {statement}
    import timm
import torch._dynamo.utils
assert torch._dynamo.utils.__file__ and sys.modules["torch._dynamo.utils"].__file__ and compiles()
"""
        run(repository, tmp_path, body)


def test_nothing_changes_where_the_compiler_is_there_already(repository: Path, tmp_path: Path) -> None:
    body = """
import torch._dynamo.utils
before, disable = sys.modules["torch._dynamo.utils"], torch.compiler.disable
with without_compiler():
    assert torch.compiler.disable is disable
    import timm
assert sys.modules["torch._dynamo.utils"] is before and compiles()
"""
    run(repository, tmp_path, body)


def test_an_import_that_fails_leaves_no_trace(repository: Path, tmp_path: Path) -> None:
    body = """
disable = torch.compiler.disable
try:
    with without_compiler():
        import no_such_module
except ModuleNotFoundError:
    pass
assert "torch._dynamo.utils" not in sys.modules and torch.compiler.disable is disable
"""
    run(repository, tmp_path, body)
