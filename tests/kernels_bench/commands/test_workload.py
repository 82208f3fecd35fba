"""From a selection to a plan, over what this machine really offers."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from kernels_bench.commands.workload import Workload, make_workload, narrowed
from kernels_bench.console.errors import UsageError
from kernels_bench.console.text import suggestion
from kernels_bench.records.cases import PRECISIONS, Device, Load
from kernels_bench.records.catalogue import Catalogue
from kernels_bench.records.selection import Selection
from kernels_bench.workers.ask_catalogue import catalogue_of

H100 = Device(type="cuda", name="NVIDIA H100", capability=(9, 0))


@pytest.fixture(scope="module")
def here() -> Catalogue:
    """What can be run here, as on a machine without a GPU."""
    catalogue = catalogue_of(Selection())
    if catalogue.device.type != "cpu":
        pytest.skip("needs a machine without a GPU")
    return catalogue


@pytest.fixture(scope="module")
def on_gpu(here: Catalogue) -> Catalogue:
    """The same operators and relations where every arm runs."""
    arms = tuple(arm.model_copy(update={"unavailable": ""}) for arm in here.arms)
    return here.model_copy(update={"device": H100, "arms": arms})


def refusal(catalogue: Catalogue, selection: Selection) -> str:
    with pytest.raises(UsageError) as caught:
        make_workload(catalogue, selection)
    message = str(caught.value)
    assert message
    assert "\n" not in message
    return message


def tokens(workload: Workload) -> list[str]:
    return list(dict.fromkeys(case.shape.token for case in workload.cases))


@pytest.mark.parametrize(
    ("selection", "meant"),
    [
        (Selection(op=("rmsnorm",)), "rms_norm"),
        (Selection(op=("mm", "log_softmx")), "log_softmax"),
        (Selection(arm=("samebit",)), "samebits"),
        (Selection(relation=("batchsize",)), "batch_size"),
        (Selection(shapes=("qwen3-8B",)), "qwen3-8b"),
        (Selection(shapes=("qwen3-8b/oproj",)), "qwen3-8b/o_proj"),
        (Selection(dtype=("bf61",)), "bf16"),
        (Selection(dtype=("bf16:fp23",)), "bf16:fp32"),
    ],
)
def test_an_unknown_name_suggests_the_nearest(here: Catalogue, selection: Selection, meant: str) -> None:
    message = refusal(here, selection)
    assert "did you mean" in message
    assert meant in message.split("did you mean")[1]


def test_a_name_like_no_other_lists_what_is_known(here: Catalogue) -> None:
    message = refusal(here, Selection(op=("zzzzzzzz",)))
    assert "zzzzzzzz" in message
    assert all(operator.name in message for operator in here.operators)
    shapes = refusal(here, Selection(shapes=("#########",)))
    assert "known are" in shapes
    assert "qwen3-8b" in shapes
    assert "qwen3-8b/" not in shapes  # sets of shapes alone: there are too many shapes to list


def test_what_can_be_chosen_is_narrowed_by_what_was(here: Catalogue) -> None:
    assert narrowed(here, Selection()) == here
    shown = narrowed(here, Selection(op=("attention_decode",)))
    assert [operator.name for operator in shown.operators] == ["attention_decode"]
    assert "torch-flex" in {arm.name for arm in shown.arms}
    assert "cublas-restricted" not in {arm.name for arm in shown.arms}
    assert {"shared_pages", "batch_size"} <= {one.name for one in shown.relations}
    assert "tensor_parallel" not in {one.name for one in shown.relations}
    one = narrowed(here, Selection(arm=("samebits[*]",), relation=("repeat",)))
    assert ([arm.name for arm in one.arms], [each.name for each in one.relations]) == (["samebits"], ["repeat"])
    assert one.operators == here.operators
    with pytest.raises(UsageError, match="did you mean rms_norm"):
        narrowed(here, Selection(op=("rmsnorm",)))


def test_on_a_cpu_an_operator_of_ones_own_has_all_dtypes_that_it_names(here: Catalogue) -> None:
    (norm,) = (operator for operator in here.operators if operator.name == "rms_norm")

    def dtypes(**changes: object) -> list[str]:
        catalogue = here.model_copy(update={"operators": (norm.model_copy(update=changes),)})
        workload = make_workload(catalogue, Selection(arm=("torch",), shapes=("small/aligned",)))
        return [case.precision.input for case in workload.cases]

    assert dtypes() == ["bf16", "fp32"]
    assert dtypes(own=True) == ["bf16", "fp16", "fp32"]


def test_a_short_run_on_a_cpu_has_the_shape_that_tells_most(here: Catalogue) -> None:
    assert tokens(make_workload(here, Selection(op=("mm", "rms_norm"), quick=True))) == ["259x513", "1003"]
    asked = Selection(op=("mm",), shapes=("small",), quick=True)
    assert tokens(make_workload(here, asked)) == ["512x512", "259x513"]


def test_suggestions_are_ordered_by_likeness() -> None:
    assert suggestion("sofmax", ["log_softmax", "softmax"]).startswith("; did you mean softmax")


def test_an_arm_that_cannot_run_here_is_left_out_with_its_reason(here: Catalogue) -> None:
    workload = make_workload(here, Selection())
    left_out = {arm.name: arm.unavailable for arm in workload.left_out}
    assert {"cublas-restricted", "vllm"} <= set(left_out)
    assert all(left_out.values())
    assert {case.arm for case in workload.cases} == {"torch", "samebits", "torch-flex"}


def test_an_arm_that_alone_was_asked_for_and_cannot_run_here_is_refused_with_its_reason(here: Catalogue) -> None:
    message = refusal(here, Selection(arm=("cublas-restricted",)))
    assert "cublas-restricted cannot run here: " in message
    assert "CUDA" in message


@pytest.mark.parametrize("batch", [0, -1, (1 << 20) + 1, 10**30])
def test_an_impossible_batch_is_refused(here: Catalogue, batch: int) -> None:
    assert f"--batch {batch}" in refusal(here, Selection(batch=(16, batch)))


@pytest.mark.parametrize(
    "shapes",
    [("0", "64"), ("64", "0"), ("0x64",), (f"{1 << 21}", "4"), ("512x0",), ("9" * 30, "4")],
)
def test_impossible_sizes_are_refused(here: Catalogue, shapes: tuple[str, ...]) -> None:
    assert "between 1 and" in refusal(here, Selection(op=("mm",), shapes=shapes))


def test_shapes_of_other_operators_are_not_suggested(here: Catalogue) -> None:
    told = refusal(here, Selection(op=("mm",), shapes=("nothing-like-it",)))
    assert "known are" in told
    assert "pages" not in told
    assert "pages" in refusal(here, Selection(op=("attention_decode",), shapes=("nothing-like-it",)))


@pytest.mark.parametrize("shapes", [("-4", "4"), ("4.5", "4"), ("x",), ("4x",), ("nan",)])
def test_sizes_that_are_no_sizes_are_unknown_names(here: Catalogue, shapes: tuple[str, ...]) -> None:
    assert "unknown" in refusal(here, Selection(op=("mm",), shapes=shapes))


def test_relations_without_a_meaning_for_what_was_chosen_are_refused(here: Catalogue) -> None:
    message = refusal(here, Selection(op=("mm", "mean"), relation=("chunking", "prefill_decode")))
    assert message.startswith("--relation chunking,prefill_decode: has no meaning for mm, mean; these have: repeat,")
    both = make_workload(here, Selection(op=("mm", "attention_prefill"), relation=("chunking",)))
    assert {case.operator for case in both.cases} == {"mm", "attention_prefill"}


def test_an_odd_number_of_sizes_is_refused(here: Catalogue) -> None:
    assert "left over" in refusal(here, Selection(op=("mm",), shapes=("64", "64", "64")))


def test_sizes_that_fit_no_chosen_operator_are_refused(here: Catalogue) -> None:
    assert "fits none" in refusal(here, Selection(op=("mm",), shapes=("64",)))
    assert "fits none" in refusal(here, Selection(op=("mm",), shapes=("2x3x4x5",)))


def test_a_models_name_stands_for_all_of_its_shapes(here: Catalogue) -> None:
    workload = make_workload(here, Selection(op=("mm",), arm=("torch",), shapes=("qwen3-8b",)))
    labels = {case.shape.label for case in workload.cases}
    assert {"qwen3-8b/o_proj", "qwen3-8b/qkv_proj", "qwen3-8b/gate_up_proj", "qwen3-8b/down_proj"} <= labels
    assert all(label.startswith("qwen3-8b/") for label in labels)


def test_one_projection_of_a_model(here: Catalogue) -> None:
    workload = make_workload(here, Selection(op=("mm",), arm=("torch",), shapes=("qwen3-8b/o_proj",), dtype=("fp32",)))
    assert [case.key for case in workload.cases] == ["torch/mm/4096x4096/fp32"]


@pytest.mark.parametrize("typed", [("96", "64"), ("96x64",)])
def test_sizes_are_n_then_k_however_they_are_typed(here: Catalogue, typed: tuple[str, ...]) -> None:
    workload = make_workload(here, Selection(op=("mm", "rms_norm"), arm=("torch",), shapes=typed, dtype=("fp32",)))
    of = {case.operator: case.shape for case in workload.cases}
    assert (of["mm"].n, of["mm"].k) == (96, 64)
    assert (of["rms_norm"].n, of["rms_norm"].k) == (None, 64)


def test_several_pairs_names_and_repetitions_in_one_list(here: Catalogue) -> None:
    shapes = ("16", "32", "qwen3-8b/o_proj", "48", "64", "16x32", "4096x4096")
    workload = make_workload(here, Selection(op=("mm",), arm=("torch", "torch"), shapes=shapes, dtype=("fp32", "fp32")))
    assert sorted(tokens(workload)) == ["16x32", "4096x4096", "48x64"]
    assert len(workload.cases) == 3


def test_a_shape_known_to_one_operator_leaves_the_others_out(here: Catalogue) -> None:
    workload = make_workload(here, Selection(op=("mm", "softmax"), arm=("torch",), shapes=("qwen3-8b/o_proj",)))
    assert {case.operator for case in workload.cases} == {"mm"}


def test_the_default_run_covers_every_operator(here: Catalogue, on_gpu: Catalogue) -> None:
    for catalogue in (here, on_gpu):
        for quick in (False, True):
            workload = make_workload(catalogue, Selection(quick=quick))
            device = catalogue.device.type
            expected = {operator.name for operator in catalogue.operators if device not in operator.by_request}
            assert {case.operator for case in workload.cases} == expected


@pytest.mark.parametrize("offers", [("mm", "softmax"), ()])
def test_a_plugin_without_any_chosen_operator_is_refused(here: Catalogue, offers: tuple[str, ...]) -> None:
    plugged = here.arms[0].model_copy(update={"name": "mine", "offers": offers, "plugin": "my.py"})
    catalogue = here.model_copy(update={"arms": (*here.arms, plugged)})
    said = f"has none of the chosen operators; it has {', '.join(offers) or 'none at all'}"
    chosen = Selection(op=("rms_norm",), plugin=("my.py",))
    assert refusal(catalogue, chosen) == f"--plugin my.py: {said}"
    assert refusal(catalogue, chosen.model_copy(update={"arm": ("mine",)})) == f"--arm mine: {said}"
    left_out = make_workload(catalogue, chosen.model_copy(update={"arm": ("torch",)}))
    assert [arm.name for arm in left_out.arms] == ["torch"]


def test_an_arm_is_asked_only_for_what_it_has(on_gpu: Catalogue) -> None:
    workload = make_workload(on_gpu, Selection())
    offers = {arm.name: arm.offers for arm in on_gpu.arms}
    assert {"rms_norm", "fused_add_rms_norm"} < {*(offers["vllm-default"] or ())}
    for case in workload.cases:
        assert case.operator in (offers[case.arm] or (case.operator,))
    assert [arm.name for arm in make_workload(on_gpu, Selection(op=("mean",))).arms] == [
        *("torch", "ascend-triton", "samebits", "vllm")
    ]
    message = refusal(on_gpu, Selection(op=("mm", "mean"), arm=("torch", "vllm-default")))
    assert "--arm vllm-default" in message
    assert "rms_norm" in message


def test_heads_that_do_not_divide_are_refused(here: Catalogue) -> None:
    attention = Selection(op=("attention_decode",), arm=("torch",))
    chosen = make_workload(here, attention.model_copy(update={"shapes": ("8x2x64x16x100",)})).cases[0].shape
    assert (chosen.heads, chosen.kv_heads, chosen.k, chosen.page, chosen.tokens) == (8, 2, 64, 16, 100)
    assert "multiple" in refusal(here, attention.model_copy(update={"shapes": ("8x3x64x16x100",)}))


def test_a_family_of_operators_is_asked_for_by_its_name(on_gpu: Catalogue) -> None:
    workload = make_workload(on_gpu, Selection(op=("attention", "mean", "attention_decode")))
    assert [*workload.sweeps] == ["attention_decode", "attention_prefill", "attention_mixed", "mla_decode", "mean"]
    assert {case.operator for case in workload.cases} == {*workload.sweeps}


def test_a_short_run_times_the_first_shape_of_each_operator(on_gpu: Catalogue) -> None:
    workload = make_workload(on_gpu, Selection(quick=True))
    timed = {(case.operator, case.shape.label) for case in workload.cases if workload.loads(case)}
    assert len(timed) == len({operator for operator, _ in timed}) == len({case.operator for case in workload.cases})
    assert ("mm", "qwen3-8b/o_proj") in timed
    assert any(case.operator == "mm" and case.shape.label == "unaligned/0" for case in workload.cases)
    asked = make_workload(on_gpu, Selection(quick=True, op=("mm",), shapes=("unaligned",)))
    assert all(asked.loads(case) for case in asked.cases)


def test_a_short_run_leaves_latent_attention_to_who_asks_for_it(on_gpu: Catalogue) -> None:
    def names(**chosen: object) -> set[str]:
        return {case.operator for case in make_workload(on_gpu, Selection.model_validate(chosen)).cases}

    assert "mla_decode" not in names(op=("attention",), quick=True)
    assert names(op=("mla_decode",), quick=True) == {"mla_decode"}
    assert "mla_decode" in names(op=("attention",))


def test_quick_is_a_part_of_the_whole_and_much_smaller(on_gpu: Catalogue) -> None:
    whole, quick = make_workload(on_gpu, Selection()), make_workload(on_gpu, Selection(quick=True))
    assert {case.key for case in quick.cases} < {case.key for case in whole.cases}
    assert quick.planned * 2 < whole.planned
    assert quick.sweeps["mm"].sizes == whole.sweeps["mm"].sizes
    assert quick.relations == whole.relations
    assert quick.sweeps["mm"].universe == whole.sweeps["mm"].universe


def test_a_gpu_run_covers_every_arm_and_the_issues_batches(on_gpu: Catalogue) -> None:
    workload = make_workload(on_gpu, Selection())
    issues = tuple(Load(m=m) for m in (1, 16, 256, 2048))
    assert all(sweep.timed == issues and sweep.universe >= 4096 for sweep in workload.sweeps.values())
    assert workload.left_out == ()
    by_request = {o.name for o in on_gpu.operators if "cuda" in o.by_request}
    usual = {arm.name for arm in on_gpu.arms if not set(arm.offers or ("mm",)) <= by_request}
    assert {case.arm for case in workload.cases} == {arm.name for arm in workload.arms} == usual
    others = make_workload(on_gpu, Selection(op=tuple(by_request)))
    assert {case.arm for case in [*workload.cases, *others.cases]} == {arm.name for arm in on_gpu.arms}


def test_invented_shapes_are_timed_at_every_other_batch_unless_asked_for(here: Catalogue, on_gpu: Catalogue) -> None:
    def batches(catalogue: Catalogue, **chosen: Any) -> dict[bool, set[int]]:
        workload = make_workload(catalogue, Selection(op=("mm",), arm=("torch",), **chosen))
        found: dict[bool, set[int]] = {}
        for cases, load in workload.timing_groups():
            found.setdefault(cases[0].shape.invented, set()).add(load.m)
        return found

    assert batches(on_gpu) == {False: {1, 16, 256, 2048}, True: {16, 2048}}
    assert batches(on_gpu, batch=(1, 3)) == {False: {1, 3}, True: {1, 3}}
    assert batches(on_gpu, shapes=("unaligned/0",)) == {True: {1, 16, 256, 2048}}
    assert batches(here) == {True: {1, 16, 256}}


def test_the_cpu_measures_small_shapes_only_unless_asked(here: Catalogue) -> None:
    assert all(case.shape.label.startswith("small/") for case in make_workload(here, Selection()).cases)


def test_a_batch_beyond_the_universe_makes_it_larger(on_gpu: Catalogue) -> None:
    sweep = make_workload(on_gpu, Selection(batch=(7, 5000))).sweeps["mm"]
    assert sweep.timed == (Load(m=7), Load(m=5000))
    assert (sweep.universe, sweep.asked) == (5000, (7, 5000))
    assert set(sweep.digested) == {1, 7, 16, 256, 2048, 5000}


def test_a_batch_adds_to_what_is_verified_and_takes_nothing_away(here: Catalogue) -> None:
    """Else a kernel that splits K below M = 8 would be called kept by ``--batch 16,64``."""
    usual = make_workload(here, Selection(op=("mm",))).sweeps["mm"]
    asked = make_workload(here, Selection(op=("mm",), batch=(16, 64, 99))).sweeps["mm"]
    assert {*usual.sizes, 99} == {*asked.sizes}
    assert asked.timed == (Load(m=16), Load(m=64), Load(m=99))


def test_attention_is_timed_at_batches_and_lengths_whose_caches_fit(on_gpu: Catalogue) -> None:
    workload = make_workload(on_gpu, Selection(op=("attention",), arm=("samebits",)))
    decode = {
        case.shape.label: workload.loads(case)
        for case in workload.cases
        if case.operator == "attention_decode" and case.precision.input == "bf16"
    }
    for load in (Load(m=1, length=128), Load(m=256, length=128), Load(m=1, length=32768)):
        assert all(load in loads for loads in decode.values() if loads)
    timed_layouts = {label.partition("/")[0] for label, loads in decode.items() if loads}
    assert timed_layouts == {"qwen3-8b", "gpt-oss-20b", "gemma-2-9b", "llama-2-7b"}
    timed = [
        case.precision.input for case in workload.cases if workload.loads(case) and case.operator == "attention_decode"
    ]
    assert set(timed) == {"bf16"}
    # 2 GiB of keys and values: 2^19 tokens of 8 heads of 128 in 16 bits, a quarter of them of 32 heads.
    assert Load(m=16, length=32768) in decode["qwen3-8b/attention"]
    assert Load(m=256, length=32768) not in decode["qwen3-8b/attention"]
    assert Load(m=16, length=32768) not in decode["llama-2-7b/attention"]
    assert workload.sweeps["attention_mixed"].timed == ()


@pytest.mark.parametrize(
    ("operator", "shape", "most"),
    [
        ("attention_decode", "qwen3-8b/attention", 16),  # 2^19 tokens of 8 heads of 128 keys and values, of 16 bits
        ("attention_fp8_decode", "qwen3-8b/attention", 32),  # of 8 bits
        ("mla_decode", "deepseek-v3/mla", 56),  # 1.8 million of 576 numbers, keys and values alike, of 16 bits
    ],
)
def test_caches_are_as_large_as_their_operator_has_them(
    on_gpu: Catalogue, operator: str, shape: str, most: int
) -> None:
    asked = Selection(op=(operator,), shapes=(shape,), length=(32768,), batch=(16, 17, 32, 33, 56, 57), dtype=("bf16",))
    workload = make_workload(on_gpu, asked)
    assert {max(load.m for load in workload.loads(case)) for case in workload.cases} == {most}


def test_what_is_asked_for_is_timed(on_gpu: Catalogue) -> None:
    asked = Selection(op=("attention_decode",), arm=("samebits",), shapes=("long", "pages/64"), dtype=("fp16",))
    workload = make_workload(on_gpu, asked)
    assert len(workload.cases) == 2
    assert all(workload.loads(case) for case in workload.cases)


def test_lengths_are_chosen_as_asked_and_few_in_a_short_run(on_gpu: Catalogue) -> None:
    one = Selection(op=("attention_decode",), arm=("samebits",), shapes=("qwen3-8b",), batch=(4,))
    asked = make_workload(on_gpu, one.model_copy(update={"length": (512, 100)})).sweeps["attention_decode"].timed
    assert asked == (Load(m=4, length=100), Load(m=4, length=512))
    short = make_workload(on_gpu, one.model_copy(update={"quick": True})).sweeps["attention_decode"].timed
    assert short == (Load(m=4, length=2048),)
    assert "--length 0" in refusal(on_gpu, one.model_copy(update={"length": (0,)}))


def test_lengths_that_are_asked_for_are_verified_too_where_rows_are_sequences(on_gpu: Catalogue) -> None:
    asked = Selection(op=("attention", "mm"), length=(512, 100, 512))
    sweeps = make_workload(on_gpu, asked).sweeps
    sequences = {"attention_decode", "attention_prefill", "attention_mixed", "mla_decode"}
    assert {name for name, sweep in sweeps.items() if sweep.lengths == (100, 512)} == sequences
    assert sweeps["mm"].lengths == ()
    usual = make_workload(on_gpu, asked.model_copy(update={"length": None})).sweeps
    assert all(sweep.lengths == () for sweep in usual.values())


def test_an_arm_that_takes_long_is_measured_at_the_first_shape_unless_shapes_are_asked_for(on_gpu: Catalogue) -> None:
    def layouts(arm: str, **more: object) -> set[str]:
        workload = make_workload(
            on_gpu, Selection.model_validate({"op": ("attention_decode",), "arm": ("torch", arm), **more})
        )
        return {case.shape.label for case in workload.cases if case.arm == arm}

    assert layouts("torch") == {"qwen3-8b/attention"} < layouts("samebits")
    assert layouts("torch", shapes=("gemma-2-9b",)) == {"gemma-2-9b/attention"}


WORDS = {
    "op": ("mm", "bmm", "bmm_heads", "rms_norm", "mean", "reductions", "attention", "attention_prefill"),
    "arm": ("torch", "samebits", "vllm"),
    "shapes": ("small", "unaligned", "qwen3-8b", "deepseek-v3", "96x64", "3x64x32"),
    "dtype": PRECISIONS,
    "relation": ("repeat", "batch_size", "graph"),
}


def names(option: str) -> st.SearchStrategy[tuple[str, ...] | None]:
    return st.none() | st.lists(st.sampled_from(WORDS[option]), min_size=1, max_size=3).map(tuple)


@settings(max_examples=60)
@given(
    selection=st.builds(
        Selection,
        op=names("op"),
        arm=names("arm"),
        shapes=names("shapes"),
        dtype=names("dtype"),
        relation=names("relation"),
        batch=st.none() | st.lists(st.integers(1, 1 << 20), min_size=1, max_size=5).map(tuple),
        quick=st.booleans(),
    ),
    gpu=st.booleans(),
)
def test_every_plan_can_be_carried_out(here: Catalogue, on_gpu: Catalogue, selection: Selection, gpu: bool) -> None:
    catalogue = on_gpu if gpu else here
    try:
        workload = make_workload(catalogue, selection)
    except UsageError:
        event("refused")  # no arm that runs here, one that has none of the operators, or sizes that fit none
        assert "vllm" in (selection.arm or ()) or selection.shapes is not None
        return
    usable = {arm.name for arm in catalogue.arms if not arm.unavailable}
    assert workload.cases
    assert {case.arm for case in workload.cases} == {arm.name for arm in workload.arms}
    assert {arm.name for arm in workload.arms} <= usable
    assert not {arm.name for arm in workload.left_out} & usable
    assert len({case.key for case in workload.cases}) == len(workload.cases)
    for name, sweep in workload.sweeps.items():
        rows = {load.m for load in sweep.timed}
        attention, timed = "attention" in name or name == "mla_decode", name != "attention_mixed"
        assert sweep.universe >= max(4096 if gpu and not attention else 1, *sweep.sizes)
        assert attention or sweep.universe >= max(rows)
        assert set(selection.batch or ()) <= {*sweep.sizes} & (rows if timed else {*sweep.sizes})
        assert all((load.length is not None) == attention for load in sweep.timed)
        assert list(sweep.sizes) == sorted(set(sweep.sizes))
        assert max(sweep.sizes) == max(sweep.digested) == sweep.universe
        assert timed == (sweep.timed != ())
    units = [(case.key, load.token) for cases, load in workload.timing_groups() for case in cases]
    assert sorted(units) == sorted((case.key, load.token) for case in workload.cases for load in workload.loads(case))
    assert workload.planned == len(workload.cases) + len(units)


def test_a_plan_is_a_function_of_the_selection(here: Catalogue) -> None:
    assert make_workload(here, Selection(seed=3)) == make_workload(here, Selection(seed=3))
    assert make_workload(here, Selection(seed=3)).seed == 3


def chosen(catalogue: Catalogue, **asked: object) -> Workload:
    return make_workload(catalogue, Selection.model_validate({"op": ("linear",), "dtype": ("bf16",), **asked}))


def test_candidates_are_measured_where_they_are_asked_for_and_not_else(on_gpu: Catalogue) -> None:
    (samebits,) = (arm for arm in on_gpu.arms if arm.name == "samebits")
    usual = {case.operator for case in chosen(on_gpu).cases}
    offering = [one for one in samebits.candidates if usual & {*one.offers}]
    labels = [one.label for one in offering if "bf16" in (one.dtypes or ("bf16",))]
    assert 1 < len(labels) < len(samebits.candidates)
    assert not any("[" in case.arm for case in chosen(on_gpu).cases)
    every = chosen(on_gpu, arm=("samebits[*]",))
    assert {arm.name for arm in every.arms} == {f"samebits[{label}]" for label in labels}
    assert every.searched == frozenset()
    one = chosen(on_gpu, arm=(f"samebits[{labels[0]}]", "torch"))
    assert [arm.name for arm in one.arms] == ["torch", f"samebits[{labels[0]}]"]


def test_a_search_has_all_candidates_but_leaves_those_alone_that_are_named(on_gpu: Catalogue) -> None:
    (samebits,) = (arm for arm in on_gpu.arms if arm.name == "samebits")
    named = f"samebits[{samebits.candidates[0].label}]"
    searching = chosen(on_gpu, arm=("samebits", named), budget_s=9.0)
    assert {"samebits", named} <= {case.arm for case in searching.cases}
    assert searching.searched == {case.arm for case in searching.cases} - {"samebits", named}
    assert len(searching.searched) > 1
    assert searching.orders.keys() == searching.searched
    assert chosen(on_gpu, budget_s=0.0).searched == frozenset()
    assert chosen(on_gpu, op=("bmm",), dtype=("bf16",), budget_s=9.0).searched == frozenset()


def test_an_arm_s_processes_are_helped_by_all_its_candidates_cases(on_gpu: Catalogue) -> None:
    workload = chosen(on_gpu, arm=("samebits[*]",), shapes=("qwen3-8b",))
    assert {*workload.extra_workers} <= {"samebits"}


def test_one_operator_has_no_candidates(on_gpu: Catalogue) -> None:
    said = refusal(on_gpu, Selection(op=("bmm",), arm=("samebits[*]",)))
    assert said == "--arm samebits[*]: has no candidates for the chosen operators"
