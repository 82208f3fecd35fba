"""Which arms give the same bits."""

from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.records.cases import Shape
from kernels_bench.records.results import Verification
from support.records import case, verified
from support.summaries import arm_of, run

DIGESTS = st.dictionaries(st.sampled_from([1, 16, 256, 2048]), st.sampled_from("ab"), max_size=4)


class TestSameBits:
    @given(st.lists(st.tuples(DIGESTS, DIGESTS), min_size=1, max_size=4))
    def test_the_relation_is_symmetric_and_true(self, digests: list[tuple[dict[int, str], dict[int, str]]]) -> None:
        records = []
        for i, (ours, theirs) in enumerate(digests):
            shape = Shape(label="s", n=i + 1, k=8)
            records += [verified(case("vllm", shape=shape), digests=ours)]
            records += [verified(case("torch", shape=shape), digests=theirs)]
        vllm, torch = arm_of(run(*records), "vllm").same_bits, arm_of(run(*records), "torch").same_bits
        swapped = [same.model_copy(update={"arm": "vllm"}) for same in vllm]
        assert swapped == list(torch)
        pairs = [(m, ours[m] == theirs[m]) for ours, theirs in digests for m in ours.keys() & theirs.keys()]
        assert bool(vllm) == any(equal for _, equal in pairs)
        for same in vllm:
            assert (same.equal, same.compared) == (sum(equal for _, equal in pairs), len(pairs))
            assert set(same.sizes) == {m for m, _ in pairs} - {m for m, equal in pairs if not equal}

    def test_everywhere_at_some_m_or_at_times(self) -> None:
        def same(*digests: tuple[dict[int, str], dict[int, str]]) -> str:
            shapes = [Shape(label="s", n=i + 1, k=8) for i in range(len(digests))]
            pairs = list(zip(shapes, digests, strict=True))
            ours = [verified(case("vllm", shape=s), digests=d[0]) for s, d in pairs]
            theirs = [verified(case("torch", shape=s), digests=d[1]) for s, d in pairs]
            return "".join(s.arm + s.where for s in arm_of(run(*ours, *theirs), "vllm").same_bits)

        assert same(({1: "a", 256: "b"}, {1: "a", 256: "b"})) == "torch"
        assert same(({1: "a", 256: "b"}, {1: "x", 256: "b"})) == "torch at M=256"
        assert same(({1: "a", 256: "b"}, {1: "x", 256: "y"})) == ""
        assert same(({1: "a"}, {1: "a"}), ({1: "b"}, {1: "y"})) == "torch in 1 of 2 outputs"
        assert same(({1: "a"}, {256: "a"})) == ""

    def test_other_operators_cases_and_unmeasured_ones_do_not_count(self) -> None:
        records = [
            verified(case("vllm", dtype="bf16"), digests={1: "a"}),
            verified(case("torch", dtype="fp16"), digests={1: "a"}),
            Verification(case=case("samebits"), status="failed", reason="no", digests={1: "a"}),
        ]
        assert arm_of(run(*records), "vllm").same_bits == ()
