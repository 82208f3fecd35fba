"""What every arm must offer, and what it says of GPUs that are not here."""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from kernels_bench.arms import Arm, PluginError, arms, kernels_of, load_plugin, said_by
from kernels_bench.arms.plugins import file_of, with_plugins
from kernels_bench.arms.vllm import batch_invariant as vllm_invariant
from kernels_bench.arms.vllm.flash_attention3 import FIXED_SPLITS, GRAPH_SPLITS
from kernels_bench.operators import operators
from kernels_bench.records.cases import Device
from kernels_bench.workers.catalogue import everything
from kernels_bench.workers.messages import AskCatalogue
from support import PLUGINS

CPU = Device(type="cpu", name="a CPU")
H100 = Device(type="cuda", name="H100", capability=(9, 0))
A100 = Device(type="cuda", name="A100", capability=(8, 0))
T4 = Device(type="cuda", name="T4", capability=(7, 5))


def test_the_default_arm_comes_first_and_claims_nothing() -> None:
    first = next(iter(arms().values()))
    assert first.name == "torch"
    assert not first.claims


@pytest.mark.parametrize("arm", arms().values(), ids=lambda arm: arm.name)
def test_an_arm_says_what_it_is_and_where_it_cannot_run(arm: Arm) -> None:
    assert arm.summary
    for device in (CPU, H100, A100, T4):
        reason = arm.unavailable(device)
        assert reason is None or len(reason) > 10
    assert arm.caveat(H100) == ""


@pytest.mark.parametrize("name", ["cublas-restricted", "samebits", "vllm"])
def test_below_sm90_every_claiming_arm_says_what_that_means(name: str) -> None:
    assert arms()[name].caveat(A100)


def test_a_gpu_without_bf16_matrix_units_is_refused_by_the_arm_that_needs_them_alone() -> None:
    assert "SM75" in (arms()["samebits"].unavailable(T4) or "")
    assert arms()["torch"].unavailable(T4) is None


def test_arms_announce_known_operators() -> None:
    for arm in arms().values():
        assert arm.offers is None or set(arm.offers) <= set(operators())


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
@pytest.mark.parametrize("arm", arms().values(), ids=lambda arm: arm.name)
def test_arms_offer_what_they_announce(arm: Arm) -> None:
    if why := arm.unavailable(H100):
        pytest.skip(why)
    code = f"from kernels_bench.arms import arms; print(*arms()[{arm.name!r}].kernels())"
    words = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **arm.environment}, capture_output=True, text=True, check=True
    ).stdout.split()
    assert set(arm.offers or operators()) <= set(words)


def test_samebits_candidates_on_a_cpu_have_kernels_of_all_that_they_offer() -> None:
    for one in arms()["samebits"].candidates(Device(type="cpu", name="a CPU")).values():
        assert one.kernels().keys() == {*one.offers}


@pytest.mark.parametrize("device", [Device(type="cpu", name="a CPU"), Device(type="cuda", name="a GPU")])
def test_candidates_offer_what_their_arms_do_and_say_their_order(device: Device) -> None:
    known = {arm.name: arm.candidates(device) for arm in arms().values()}
    for name, candidates in known.items():
        for one in candidates.values():
            assert {*one.offers} <= {*(arms()[name].offers or ())}
            assert one.order
    if device.type == "cuda":
        # A bounded heuristic is no fixed number of splits.
        assert {*known["flash-attn3"]} == {f"{n}splits{tile}" for n in FIXED_SPLITS for tile in ("", "-1tile")}
        assert GRAPH_SPLITS not in FIXED_SPLITS
        assert {*known["triton-unified"]} == {"2d"}
        bindings = {"cublas-restricted"} if importlib.util.find_spec("nvmath") else set()
        assert {name for name, found in known.items() if found} == {
            *("samebits", "flash-attn3", "triton-unified"), *bindings,
        }  # fmt: skip


def test_arms_that_run_here_offer_known_operators_only() -> None:
    assert set(arms()["torch"].kernels()) == set(operators()) - {"all_reduce", "reduce_scatter", "row_parallel_linear"}
    assert (
        set(arms()["samebits"].kernels()) == set(arms()["samebits"].offers or ()) == set(operators()) - {"mla_decode"}
    )


@pytest.mark.parametrize(
    ("path", "found"),
    [
        ("vllm/model_executor/determinism/batch_invariant.py", "vllm.model_executor.determinism.batch_invariant"),
        ("vllm/model_executor/layers/batch_invariant.py", "vllm.model_executor.layers.batch_invariant"),
        ("vllm/elsewhere.py", None),
    ],
)
def test_the_batch_invariant_module_is_found_by_its_file(
    path: str, found: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for file in ("vllm/__init__.py", path):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        # Were it imported, which takes vLLM seconds, this would say so.
        (tmp_path / file).write_text("raise AssertionError('imported')")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "vllm", raising=False)  # another test may have imported the real one
    assert vllm_invariant.layout() == found
    reason = vllm_invariant.unavailable(H100)
    assert reason is None if found else "no known batch-invariant module" in str(reason)


# --- arms of users' own ------------------------------------------------------------------------------------


SHAPE = "expected Shape(label=…, k=…) and, where wanted, n, b, heads, kv_heads, page, tokens"
HEAD = "from kernels_bench.arms import Arm\nfrom kernels_bench.records.cases import Shape\n\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "MINE = Shape('mine', 64)\n",
            "TypeError: BaseModel.__init__() takes 1 positional argument but 3 were given, "
            f"in line 4 (MINE = Shape('mine', 64)); {SHAPE}",
        ),
        (
            "MINE = Shape(label='mine', n='many')\n",
            "Shape cannot be made: k: Field required; n: Input should be a valid integer, unable to parse string as an "
            f"integer, in line 4 (MINE = Shape(label='mine', n='many')); {SHAPE}",
        ),
        (
            "ARM = Arm(nmae='mine', kernels=dict)\n",
            "TypeError: Arm.__init__() got an unexpected keyword argument 'nmae', in line 4 (ARM = Arm(nmae='mine', "
            "kernels=dict)); expected Arm(name=…, kernels=…) and, where wanted, claims, summary, ",
        ),
        (
            "ARM = Arm(name='mine' kernels=dict)\n",
            "SyntaxError: invalid syntax. Perhaps you forgot a comma?, in line 4 (",
        ),
        ("def my():\n    return 1 / 0\n\nmy()\n", "ZeroDivisionError: division by zero, in line 5 (return 1 / 0)"),
        ("import json\njson.loads('{')\n", "JSONDecodeError: Expecting property name"),
    ],
)
def test_a_mistake_in_a_plugin_is_told_with_its_line_and_what_is_expected(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(HEAD + text)
    with pytest.raises(PluginError) as caught:
        load_plugin(str(file))
    assert str(caught.value).startswith(f"plugin {file} does not import: {said}")
    assert "in line" in str(caught.value)
    assert "\n" not in str(caught.value)


def plugin(place: Path, fields: str) -> str:
    file = place / "my_arm.py"
    head = "from kernels_bench.arms import Arm\nFIELDS = dict(name='mine', kernels=dict)\n"
    file.write_text(f"{head}FIELDS |= dict({fields})\nARM = Arm(**FIELDS)\n")
    return str(file)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        (
            "claims=('batch_size')",
            "claims is 'batch_size': expected a tuple of relations, such as claims=('batch_size',)",
        ),
        ("claims=None", "claims is None: expected a tuple of relations, such as claims=('repeat',)"),
        ("claims=1", "claims is 1: expected"),
        ("claims=('batchsize',)", "claims names 'batchsize', which is no relation; did you mean batch_size?"),
        ("claims=['repeat', 7]", "claims names 7, which is no relation"),
        ("claims=([],)", "claims names [], which is no relation"),
        ("offers='mm'", "offers is 'mm': expected a tuple of operators, such as offers=('mm',)"),
        ("offers=('rmsnorm',)", "offers names 'rmsnorm', which is no operator; did you mean rms_norm?"),
        ("offers=7", "offers is 7"),
        ("brief='mm'", "brief is 'mm'"),
        ("brief=None", "brief is None"),
        ("default_for=('sofmax',)", "default_for names 'sofmax', which is no operator; did you mean softmax?"),
        ("default_for=(name for name in ())", "default_for is <generator"),
        ("name=7", "the arm's name 7 must be one word"),
        ("name='a\\x1b[2Jb'", r"the arm's name 'a\x1b[2Jb' must be one word"),
        ("name='a\\ud800'", r"the arm's name 'a\ud800' must be one word"),
        ("name='a' * 300", "the arm's name has 300 bytes: expected at most 100"),
        ("name='two words'", "the arm's name 'two words' must be one word"),
        ("summary=None", "summary is None: expected a text"),
        ("compiles='no'", "compiles is 'no': expected True or False"),
        ("kernels={'mm': max}", "kernels is {'mm': <built-in function max>}: expected a function"),
        ("unavailable='never'", "unavailable is 'never': expected a function"),
        ("provenance=None", "provenance is None: expected a function"),
        ("caveat=''", "caveat is '': expected a function"),
        ("environment={'X': 1}", "environment is {'X': 1}: expected texts by name"),
        ("environment={7: '1'}", "environment is {7: '1'}"),
        ("environment={'A=B': '1'}", "environment is {'A=B': '1'}"),
        ("environment={'': '1'}", "environment is {'': '1'}"),
        ("environment={'X': 'a\\0b'}", "environment is {'X': 'a"),
        ("environment='X=1'", "environment is 'X=1'"),
    ],
)
def test_a_wrong_field_is_one_line_that_names_the_plugin_and_the_field(tmp_path: Path, fields: str, said: str) -> None:
    path = plugin(tmp_path, fields)
    with pytest.raises(PluginError) as caught:
        load_plugin(path)
    assert str(caught.value).startswith(f"plugin {path}: {said}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        "claims=False",
        "claims=()",
        "claims=['repeat', 'graph']",
        "claims={'batch_size'}",
        "offers=()",
        "offers=('mm',), brief={'mm': 1}, default_for=frozenset(['mm'])",
        "environment={'X': ''}, summary='mine', compiles=True",
    ],
)
def test_fields_as_they_are_described_are_taken(tmp_path: Path, fields: str) -> None:
    assert load_plugin(plugin(tmp_path, fields)).arm("mine").name == "mine"


@pytest.mark.parametrize("arm", arms().values(), ids=lambda arm: arm.name)
def test_the_arms_here_keep_to_the_rules_for_users_own(arm: Arm, tmp_path: Path) -> None:
    file = tmp_path / "same.py"
    file.write_text(f"from kernels_bench.arms import arms\nARM = arms()[{arm.name!r}]\n")
    assert load_plugin(str(file)).arms == (arm,)


@pytest.mark.parametrize(
    ("kernels", "said"),
    [
        ({"rmsnorm": max}, "kernels() names 'rmsnorm', which is no operator; did you mean rms_norm?"),
        ({7: max}, "kernels() names 7, which is no operator"),
        ({"mm": None}, "kernels() gives None for mm: expected a function"),
        (None, "kernels() gives None: expected kernels by operator"),
        (("mm", "bmm"), "kernels() gives ('mm', 'bmm'): expected kernels by operator"),
    ],
)
def test_kernels_of_unknown_operators_are_refused(kernels: object, said: str) -> None:
    with pytest.raises(PluginError) as caught:
        kernels_of(Arm("mine", lambda: kernels))  # type: ignore[arg-type, return-value]
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("callback", "said"),
    [
        (lambda device: 1 / 0, "caveat raises ZeroDivisionError: division by zero"),
        (lambda device: sys.exit(4), "caveat raises SystemExit: 4"),
        (lambda: "", "caveat raises TypeError: "),
        (lambda device: 7, "caveat gives 7 instead of a text"),
    ],
)
def test_a_callback_that_fails_is_named(callback: Callable[..., object], said: str) -> None:
    with pytest.raises(PluginError) as caught:
        said_by(Arm("mine", dict, caveat=callback), "caveat", CPU)  # type: ignore[arg-type]
    assert str(caught.value).startswith(said)


# --- operators in a user's file ---------------------------------------------------------------------------

OWN = """
from kernels_bench import Operator
from kernels_bench.arms import Arm
mine = Operator.define({name!r}, rows={{"x": ("d",)}}, shapes={{"s": {{"d": {d}}}}}, results=("d",))
def kernel(x): return x
ARM = Arm({arm!r}, lambda: {{{name!r}: kernel}}, offers=({name!r},))
"""


def own(place: Path, name: str = "mine", arm: str = "a", d: int = 3) -> str:
    file = place / f"{arm}.py"
    file.write_text(OWN.format(name=name, arm=arm, d=d))
    return str(file)


def test_a_file_brings_operators_and_arms_for_them(tmp_path: Path) -> None:
    plugin = load_plugin(own(tmp_path))
    assert [*plugin.operators] == ["mine"]
    known = with_plugins([plugin])
    assert [*known] == [*operators(), "mine"]
    assert set(kernels_of(plugin.arm("a"), known)) == {"mine"}
    with pytest.raises(PluginError, match=r"kernels\(\) names 'mine', which is no operator"):
        kernels_of(plugin.arm("a"))
    assert "mine" not in operators()


def test_one_operator_may_come_from_several_files_and_two_may_not_share_a_name(tmp_path: Path) -> None:
    both = [load_plugin(own(tmp_path, arm=arm)) for arm in ("a", "b")]
    assert len(with_plugins(both)) == len(operators()) + 1
    other = load_plugin(own(tmp_path, arm="c", d=4))
    with pytest.raises(PluginError, match=r"c\.py: there is an operator 'mine' already; choose another name"):
        with_plugins([*both, other])


@pytest.mark.parametrize(("name", "kind"), [("mm", "an operator"), ("gemm", "a family"), ("own", "a family")])
def test_our_names_are_taken(tmp_path: Path, name: str, kind: str) -> None:
    with pytest.raises(PluginError, match=f"there is {kind}.* '{name}' already; choose another name"):
        load_plugin(own(tmp_path, name=name))


def test_an_arm_that_a_file_does_not_have_is_told() -> None:
    plugin = load_plugin(str(PLUGINS / "own_operators.py"))
    assert [arm.name for arm in plugin.arms] == ["steady", "by-size"]
    assert plugin.arm("by-size").name == "by-size"
    with pytest.raises(PluginError, match="has no arm 'fast'"):
        plugin.arm("fast")


def test_a_function_of_a_file_is_an_arm(tmp_path: Path) -> None:
    path = own(tmp_path)
    (arm,) = load_plugin(f"{path}:mine=kernel").arms
    assert (arm.name, arm.offers, arm.claims) == ("kernel", ("mine",), True)
    assert load_plugin(f"{path}:softmax=kernel").arms[0].offers == ("softmax",)
    assert file_of(f"{path}:mine=kernel") == file_of(path) == path
    for named, said in ((f"{path}:mnie=kernel", "there is no operator 'mnie'; did you mean mine"),
                        (f"{path}:mine=krenel", "has no function 'krenel'"),
                        (f"{path}x:mine=kernel", "no such file")):  # fmt: skip
        with pytest.raises(PluginError, match=said):
            load_plugin(named)


def test_a_definition_that_makes_no_sense_is_told_with_its_line(tmp_path: Path) -> None:
    with pytest.raises(PluginError) as caught:
        load_plugin(own(tmp_path, name="two words"))
    said = "a.py does not import: DefinitionError: operator 'two words': the name must be one word"
    assert said in str(caught.value)
    assert ", in line 4 (mine = Operator.define(" in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("x.sum()", "operator 'mine': its reference gives shape () for 3 rows: its first dimension must count them"),
        ("x[:, 9]", "operator 'mine': its reference raises IndexError: index 9 is out of bounds"),
    ],
)
def test_a_wrong_reference_is_told_before_anything_runs(tmp_path: Path, reference: str, said: str) -> None:
    file = tmp_path / "mine.py"
    file.write_text(
        "from kernels_bench import Operator\nmine = Operator.define('mine', rows={'x': ('d',)}, "
        f"shapes={{'s': {{'d': 3}}}}, reference=lambda x: {reference})\n"
    )
    with pytest.raises(PluginError) as caught:
        everything(AskCatalogue(plugins=(str(file),)))
    assert str(caught.value).startswith(f"plugin {file}: {said}")
    assert "\n" not in str(caught.value)
