"""What could be run on a device; needs no torch, so that the parent process can say it too."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path

from kernels_bench.arms import Arm, PluginError, arms, candidates_of, claims_of, load_plugin, said_by
from kernels_bench.arms.plugins import Plugin, file_of, with_plugins
from kernels_bench.console.mistakes import told
from kernels_bench.device.detect import find_device
from kernels_bench.operators import Operator
from kernels_bench.operators.defined import DefinedOperator
from kernels_bench.records.cases import Device
from kernels_bench.records.catalogue import ArmInfo, CandidateInfo, Catalogue, OperatorInfo, RelationInfo
from kernels_bench.relations import relations
from kernels_bench.workers.messages import AskCatalogue


def catalogue(device: Device, plugins: Sequence[Plugin] = ()) -> Catalogue:
    """Everything that could be run on a device, with the arms and operators of some plugins.

    Raises:
        PluginError: a plugin's arm cannot say whether it runs on the device, or an operator is not described.
    """
    infos = (
        *(_arm_info(arm, None, device) for arm in arms().values()),
        *(_plugged_info(arm, plugin.path, device) for plugin in plugins for arm in plugin.arms),
    )
    return _catalogue(device, infos, with_plugins(plugins))


def catalogue_with(device: Device, operator: Operator, arm: Arm) -> Catalogue:
    """One arm and one operator, as a process has them at hand, with all relations."""
    return _catalogue(device, (_arm_info(arm, None, device),), {operator.name: operator})


def _catalogue(device: Device, infos: tuple[ArmInfo, ...], known: Mapping[str, Operator]) -> Catalogue:
    return Catalogue(
        device=device,
        arms=infos,
        operators=tuple(map(_operator_info, known.values())),
        relations=tuple(
            RelationInfo(name=r.name, summary=r.summary, needs_cuda=r.needs_cuda) for r in relations().values()
        ),
    )


def _operator_info(operator: Operator) -> OperatorInfo:
    try:
        return _described(operator)
    except (AttributeError, TypeError, ValueError) as error:  # fields that nobody has checked
        file = inspect.getfile(type(operator))
        raise PluginError(f"{file}: operator {operator.name}: {told(error, file)}") from error


def _described(operator: Operator) -> OperatorInfo:
    return OperatorInfo(
        name=operator.name,
        summary=operator.summary,
        dims=operator.dims,
        shapes=operator.shapes,
        usual=operator.usual,
        quick=operator.quick,
        precisions=operator.precisions,
        universe=dict(operator.universe),
        family=operator.family or type(operator).__module__.rpartition(".")[2],
        timed=dict(operator.timed),
        lengths=dict(operator.lengths),
        timed_shapes=operator.timed_shapes,
        rows_are=operator.rows_are,
        by_request=operator.by_request,
        own=operator.own,
        depends_on_batch=operator.depends_on_batch,
        definition=operator.definition if isinstance(operator, DefinedOperator) else None,
    )


def _plugged_info(arm: Arm, path: str, device: Device) -> ArmInfo:
    try:
        return _arm_info(arm, path, device)
    except PluginError as error:
        raise PluginError(f"plugin {path}: {error}") from error


def _arm_info(arm: Arm, plugin: str | None, device: Device) -> ArmInfo:
    return ArmInfo(
        name=arm.name,
        claims=claims_of(arm),
        summary=arm.summary,
        environment=dict(arm.environment),
        unavailable=said_by(arm, "unavailable", device),
        caveat=said_by(arm, "caveat", device),
        compiles=arm.compiles and device.type != "cpu",
        offers=None if arm.offers is None else tuple(arm.offers),
        default_for=tuple(arm.default_for),
        brief=tuple(arm.brief),
        candidates=tuple(
            CandidateInfo(label=label, offers=tuple(one.offers), dtypes=tuple(one.dtypes), order=one.order)
            for label, one in candidates_of(arm, device).items()
        ),
        lacking=said_by(arm, "lacking", device),
        plugin=plugin,
        digest=hashlib.sha256(Path(file_of(plugin)).read_bytes()).hexdigest()[:16] if plugin else "",
    )


def everything(request: AskCatalogue) -> Catalogue:
    """Everything that could be run here.

    Raises:
        PluginError: a plugin cannot be used, or the name of its arm or its operator is taken.
    """
    device = find_device()
    plugins = [load_plugin(path) for path in request.plugins]
    taken = {*arms()}
    for plugin in plugins:
        for arm in plugin.arms:
            if arm.name in taken:
                raise PluginError(f"plugin {plugin.path}: there is an arm {arm.name!r} already; choose another name")
            taken.add(arm.name)
        plugin.refuse_wrong_references()
    return catalogue(device, plugins)
