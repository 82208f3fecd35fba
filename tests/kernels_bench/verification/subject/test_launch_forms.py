"""Forms in which rows are handed over: the same values, elsewhere in memory."""

import threading

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from kernels_bench.records.cases import Launch
from kernels_bench.verification.bitwise import bits, same_bits
from kernels_bench.verification.subject.launch_forms import FormRefused, beside, laid_out, undisturbed
from support.processes import wait_until

CPU = torch.device("cpu")
FORMS: tuple[Launch, ...] = ("view", "offset", "padded")
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
SHAPES = st.lists(st.integers(1, 9), min_size=2, max_size=4).map(tuple)


def rows_of(shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    """Any bits, of NaN and subnormal numbers too."""
    made = torch.randint(-(2**15), 2**15, shape, dtype=torch.int32)
    return made.view(dtype) if dtype == torch.float32 else made.to(torch.int16).view(dtype)


def whole_memory(tensor: torch.Tensor) -> torch.Tensor:
    """All that lies in its storage."""
    return torch.empty(0, dtype=tensor.dtype).set_(tensor.untyped_storage())


@given(SHAPES, st.sampled_from(DTYPES), st.sampled_from(FORMS))
def test_values_are_the_same_and_what_lies_beside_them_is_nan_or_a_number(
    shape: tuple[int, ...], dtype: torch.dtype, form: Launch
) -> None:
    rows = rows_of(shape, dtype)
    before = rows.clone()
    (moved,) = laid_out((rows,), form)
    assert (moved.shape, moved.dtype) == (rows.shape, rows.dtype)
    assert bool(same_bits(moved.contiguous(), rows))
    around = whole_memory(moved)
    assert len(around) > rows.numel()
    moved.zero_()
    beside = around.isnan() if len(rows).bit_length() % 2 else around.float() == 0.75
    assert int(beside.sum()) == len(around) - rows.numel()
    assert bool(same_bits(rows, before))  # another memory than the rows' own


@given(SHAPES, st.sampled_from(DTYPES))
def test_a_view_has_wider_strides_and_the_others_are_contiguous(shape: tuple[int, ...], dtype: torch.dtype) -> None:
    rows = rows_of(shape, dtype)
    width = rows[0].numel()
    (view,), (offset,), (padded,) = (laid_out((rows,), form) for form in FORMS)
    odd = len(rows) % 2
    if rows.dim() > 2 and len(rows) % 3 == 0:  # heads apart
        assert view.stride()[:-1] == tuple(3 * stride for stride in rows.stride()[:-1])
        assert (view.storage_offset(), view.stride(-1)) == (rows.shape[-1], 1)
    elif parts := {2: 3, 4: 2}.get(len(rows) % 5):  # the first part of a projection's
        assert view.stride(0) == parts * width
        assert view.storage_offset() == 0
    else:
        assert len(rows) == 1 or view.stride(0) == width + 128 + odd
        assert view.storage_offset() == 64
    if rows.dim() == 2 or len(rows) % 3:
        assert view.stride()[1:] == rows.stride()[1:]
    assert offset.is_contiguous()
    assert offset.data_ptr() % 64 == (rows.element_size() if odd else 32)
    assert padded.is_contiguous()
    assert padded.storage_offset() == 128 * width


@given(SHAPES, st.sampled_from(DTYPES), st.sampled_from(FORMS), st.data())
def test_what_was_written_beside_rows_is_known(
    shape: tuple[int, ...], dtype: torch.dtype, form: Launch, data: st.DataObject
) -> None:
    (moved,) = laid_out((rows_of(shape, dtype),), form)
    (alone,) = undisturbed((moved,), form)
    assert bool(alone)  # whatever the rows hold
    (moved,) = laid_out((rows_of(shape, dtype),), form)
    around = whole_memory(moved)
    moved.zero_()
    places = (around != 0).nonzero().flatten()
    around[places[data.draw(st.integers(0, len(places) - 1))]] = 1
    (alone,) = undisturbed((moved,), form)
    assert not bool(alone)


@pytest.mark.parametrize("form", [*FORMS, "eager", "graph", "concurrent", "updated", "kept"])
def test_what_holds_no_rows_of_numbers_stays_as_it_is(form: Launch) -> None:
    integers, of_one_dimension = torch.arange(6).view(2, 3), torch.rand(4)
    rows = torch.rand(2, 3)
    same_integers, same_line, moved = laid_out((integers, of_one_dimension, rows), form)
    assert same_line is of_one_dimension
    assert (moved is rows) == (form not in FORMS)
    if form == "view":  # as of a table that is a slice of a wider one, beside the numbers of another row
        assert torch.equal(same_integers, integers)
        assert whole_memory(same_integers).view(2, 6).tolist() == [[0, 1, 2, 3, 4, 5], [3, 4, 5, 0, 1, 2]]
    else:
        assert same_integers is integers


@pytest.mark.parametrize("dtype", [torch.int32, torch.float32])
def test_a_number_a_row_is_a_column_of_a_table(dtype: torch.dtype) -> None:
    single, rows = torch.arange(7).to(dtype), torch.rand(7, 3)
    moved, _ = laid_out((single, rows), "view")
    assert torch.equal(moved, single)
    assert moved.stride(0) > 1
    assert all(map(bool, undisturbed((moved, rows), "view")))


def test_another_launch_runs_at_the_same_time_and_ends_with_it() -> None:
    done, both = [0], threading.Event()
    names: set[str] = set()

    def other() -> None:
        done[0] += 1
        names.add(threading.current_thread().name)
        if done[0] == 3:
            both.set()

    with beside([other], CPU) as counted:
        before = counted()
        assert both.wait()  # again and again, while this one goes on
        assert wait_until(lambda: counted() > before)
    ended = done[0]
    assert threading.current_thread().name not in names
    assert not any(thread.name in names for thread in threading.enumerate())
    assert done[0] == ended


def test_of_two_launches_the_one_in_the_foreground_tells() -> None:
    def failing() -> None:
        raise RuntimeError("behind")

    with beside([failing], CPU):
        pass
    with pytest.raises(ValueError, match="in front"), beside([failing], CPU):
        raise ValueError("in front")


def test_tritons_interpreter_runs_one_kernel_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    with pytest.raises(FormRefused, match="one kernel at a time"), beside([lambda: None], CPU):
        raise AssertionError("begun")


def test_nan_around_the_rows_has_a_bit_pattern_that_no_result_hides() -> None:
    (padded,) = laid_out((torch.zeros(1, 4),), "padded")
    assert {*bits(whole_memory(padded)).tolist()} == {0, int(bits(torch.tensor([torch.nan])))}
