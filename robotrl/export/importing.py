"""Wrap a policy that another library trained: its network as it is, everything around it from a TOML file."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from robotrl.errors import ConfigError, PolicyError
from robotrl.export.excitation import excitation
from robotrl.export.foreign import ForeignSpec, check_foreign, observation_size
from robotrl.export.graph import PolicyGraph
from robotrl.export.network import ForeignNetwork, read_model
from robotrl.export.onnx import check_sources, write_policy
from robotrl.export.splice import spliced_bytes
from robotrl.export.terms import interface_of
from robotrl.export.verify import TRACE_TICKS, ExportReport
from robotrl.spec.contract_parts import Provenance
from robotrl.spec.hardware import Hardware
from robotrl.spec.robot import RobotSpec


def import_policy(
    out: Path, onnx_file: Path, spec: ForeignSpec, toml: Path, robot: Hardware, versions: Mapping[str, str]
) -> ExportReport:
    """Write one policy file around a foreign network, verified against it before it gets its name.

    The network is run by onnxruntime from its own file, terms and targets by torch; what is written must
    answer the same on made-up and random inputs, since a foreign file carries none that were recorded.

    Args:
        out: where to put it; an existing file is replaced at once or not at all.
        onnx_file: the foreign policy, observation to action.
        spec: what its file does not say.
        toml: where the spec came from, kept in the contract as its configuration.
        robot: what it is to drive.
        versions: of the packages that do the work.

    Raises:
        ConfigError: a description that does not fit robot or network.
        PolicyError: a network that cannot be read, a channel without a source, a file that cannot be written.
        VerificationError: the written graph differs from the network.
    """
    if not isinstance(robot, RobotSpec):
        raise ConfigError(
            "is an arm with a controller of its own",
            file=toml,
            key="robot",
            value=robot.name,
            allowed="a robot of joints with servos",
        )
    check_foreign(spec, robot, toml)
    interface = interface_of(spec, robot)
    check_sources(interface, robot, toml)
    network = ForeignNetwork(read_model(onnx_file), spec.network, onnx_file)
    _check_sizes(spec, network, onnx_file)
    command_range = spec.command_low, spec.command_high
    provenance = Provenance(
        config=toml.read_text(encoding="utf-8"),
        seed=0,
        git_commit="",
        steps=0,
        versions={**versions, **_producer(network)},
        scores={},
        origin=f"{onnx_file.name}, SHA-256 {hashlib.sha256(onnx_file.read_bytes()).hexdigest()}",
    )
    return write_policy(
        out,
        PolicyGraph(interface, network, robot.sizes),
        lambda graph: spliced_bytes(graph, network),
        robot,
        excitation(interface.channels, robot, command_range, TRACE_TICKS),
        provenance,
        command_range,
        normaliser_count=0.0,
    )


def _check_sizes(spec: ForeignSpec, network: ForeignNetwork, file: Path) -> None:
    """Refuse a network that reads or answers another number of values than the terms and joints make."""
    for key, found, wanted, whose in (
        (spec.network.observation, network.observation_size, observation_size(spec), "terms"),
        (spec.network.action, network.action_size, len(spec.joints), "joints"),
    ):
        if found != wanted:
            raise PolicyError(
                f"is not as long as the {whose} together",
                file=file,
                key=key,
                value=found,
                allowed=f"{wanted}",
            )


def _producer(network: ForeignNetwork) -> dict[str, str]:
    """Name and version of what wrote the foreign file, as it says itself."""
    name, version = network.model.producer_name, network.model.producer_version
    return {f"{name} (origin)": version} if name else {}
