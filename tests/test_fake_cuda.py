"""The path of a GPU without one: every operator's rules of shape, type and device, on CUDA tensors that hold nothing.

Needs a CUDA build of torch (`pip install torch`, 5.5 GB) and no card: `pytest -m cuda_build`. PyTorch's FakeTensorMode
runs what an operator says of its result and not the operator. What it cannot know is given: numbers read back to the
host (`Answers`), how rows are packed (the host's own tensors, which are real ones), and what the driver says of the
card. Autograd's engine asks for a card, so `backward` stands for it. A sharded base is shared by one process with
itself; its streams and events are `Idle`. Not reached: kernels, values, memory, the order of streams, NCCL, slices of
several processes, CUDA graphs and torch.compile.
"""

from collections import Counter, defaultdict
from collections.abc import Callable
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from train_toys import toy_model, toy_rows

import model.transformer
import train
import training.trainer
from lora import apply_lora
from model import Transformer
from model.attention import Pack
from model.monitor import OverflowMonitor
from model.sharding import shard_blocks, warm
from model.weights import set_parameter
from sampler import generate
from sampler.packing import packed_linears, packing_note
from train import TrainConfig, prepare, train_step
from training.processes import Processes

CUDA, CONFIG = torch.device("cuda", 0), toy_model(layers=2).config
HALVES = [torch.float16, torch.bfloat16]
HOOKS: dict[tuple[object, int], list[Callable]] = defaultdict(list)     # by node and slot: what a gradient is shown to
AFTERWARDS: list[Callable] = []                                         # asked for by those, for the end of `backward`

pytestmark = [pytest.mark.cuda_build, pytest.mark.skipif(
    torch.version.cuda is None or torch.cuda.is_available(), reason="needs a CUDA build of torch, and no card")]


class Answers(TorchDispatchMode):
    """What a fake tensor cannot answer: a number read back is 1, `nonzero` finds the first half of the entries.

    One in float64 is 0: the sums of a step, among them how many processes were asked to stop.
    """

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = function.overloadpacket._qualified_op_name
        if name in ("aten::_local_scalar_dense", "aten::item"):
            dtype = args[0].dtype
            return float(dtype != torch.float64) if dtype.is_floating_point else dtype == torch.bool or 1
        if name == "aten::nonzero":
            return torch.zeros((args[0].numel() // 2, args[0].dim()), dtype=torch.int64, device=args[0].device)
        return function(*args, **(kwargs or {}))


@torch.no_grad()
def backward(loss: torch.Tensor) -> None:
    """What autograd's engine does, node by node: gradients in the type that a node expects, on its device, in order."""
    uses, nodes = Counter(), [loss.grad_fn]
    for node in nodes:
        for later, _ in node.next_functions:
            if later is not None:
                nodes += [] if later in uses else [later]
                uses[later] += 1
    ready, arrived = [loss.grad_fn], defaultdict(dict)
    arrived[loss.grad_fn][0] = torch.ones_like(loss)
    while ready:
        node = ready.pop()
        given = arrived.pop(node, {})
        for slot, (grad, expected) in enumerate((given.get(i), m) for i, m in enumerate(node._input_metadata)):
            if grad is not None:
                assert grad.device == expected.device, (node, grad, expected.device)
                assert list(grad.shape) == list(expected.shape), (node, grad, expected.shape)
                given[slot] = grad.to(expected.dtype)
                for hook in HOOKS.pop((node, slot), []):
                    hook(given[slot])
        if hasattr(node, "variable"):
            node.variable.grad += given[0]
            continue
        grads = [given.get(i) for i in range(len(node._input_metadata))]
        ours = isinstance(node, torch.autograd.function.BackwardCFunction)
        found = node.apply(*grads) if ours else node(*grads)
        found = found if isinstance(found, tuple) else (found,)
        if ours:                                        # an entry an argument: those of tensors that want a gradient
            found = [grad for grad, wanted in zip(found, node.needs_input_grad, strict=True) if wanted]
            places = [place for place in node.next_functions if place[0] is not None]
        else:
            places = node.next_functions
        for (later, slot), grad in zip(places, found, strict=True):
            if later is not None:
                if grad is not None:
                    before = arrived[later].get(slot)
                    arrived[later][slot] = grad if before is None else before + grad
                uses[later] -= 1
                ready += [later] if uses[later] == 0 else []
    while AFTERWARDS:
        AFTERWARDS.pop()()


@pytest.fixture
def card(monkeypatch):
    """Everything made inside is fake, and lies on the CUDA device where the code says so."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    class HostsPack(Pack):
        def __init__(self, lengths, device):
            with _disable_current_modes():
                super().__init__(lengths, torch.device("cpu"))
            for name in ("position_ids", "index", "back"):
                setattr(self, name, getattr(self, name).to(device))

    def on_host(function):
        def real(*args, **kwargs):
            with _disable_current_modes():
                return function(*args, **kwargs)
        return real

    HOOKS.clear()
    monkeypatch.setattr(torch.Tensor, "backward", backward)
    monkeypatch.setattr(torch.Tensor, "register_hook",
                        lambda tensor, hook: HOOKS[tensor.grad_fn, tensor.output_nr].append(hook))
    monkeypatch.setattr(torch.autograd.Variable, "_execution_engine", SimpleNamespace(queue_callback=AFTERWARDS.append))
    monkeypatch.setattr(model.transformer, "Pack", HostsPack)
    for module, name in ((training.trainer, "pack"), (train, "supervised_counts")):
        monkeypatch.setattr(module, name, on_host(getattr(module, name)))
    for name, answer in (("synchronize", None), ("mem_get_info", (80 * 2**30, 80 * 2**30)), ("memory_reserved", 0),
                         ("memory_allocated", 0), ("max_memory_allocated", 0), ("reset_peak_memory_stats", None),
                         ("get_device_capability", (7, 0))):
        monkeypatch.setattr(torch.cuda, name, lambda *_, answer=answer: answer)
    # The mode keeps values of one-element tensors, and would move them to the card in earnest.
    monkeypatch.setattr("torch._subclasses.fake_tensor.CONSTANT_NUMEL_LIMIT", 0)
    with FakeTensorMode(allow_non_fake_inputs=True), Answers():
        yield


def model_on(device: torch.device, dtype: torch.dtype):
    """The toy model, its weights made where they belong."""
    with torch.device("meta"):
        made = Transformer(CONFIG)
    for name, weight in list(made.named_parameters()):
        set_parameter(made, name, torch.empty(weight.shape, dtype=dtype, device=device))
    made.tie_weights()
    return made


class Idle:
    """A stream or an event: whatever is asked of it, nothing happens."""

    def __init__(self, *_: object, **__: object) -> None:
        pass

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def __getattr__(self, name: str) -> Callable:
        return Idle


@pytest.fixture
def mesh(monkeypatch):
    """One process that shares with itself, on the CUDA device."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.testing._internal.distributed.fake_pg import FakeStore  # noqa: F401  registers the backend

    for name in ("Stream", "Event", "stream", "current_stream"):
        monkeypatch.setattr(torch.cuda, name, Idle)
    monkeypatch.setattr(torch.accelerator, "current_stream", Idle)
    for name, answer in (("current_device", 0), ("is_initialized", True), ("device_count", 1)):
        monkeypatch.setattr(torch.cuda, name, lambda answer=answer: answer)
    dist.init_process_group("fake", rank=0, world_size=1, store=dist.HashStore())
    yield init_device_mesh("cuda", (1,))
    dist.destroy_process_group()


def trainer_on(base: Transformer, **settings):
    processes = Processes()
    processes.device = CUDA
    config = TrainConfig(out="unused", rank=4, alpha=8, global_batch_size=8, micro_batch_tokens=96, **settings)
    return prepare(config, processes, toy_rows(8), None, base, None, print)


def sampled(base: Transformer, **options: float):
    """Three samples of each of three prompts, prefilled in chunks."""
    return generate(base, [[1, 2, 3] * n for n in (9, 2, 5)], num_samples=3, max_new_tokens=10, eos_ids=[7],
                    banned_ids=[3], prefill_chunk=16, max_rows=6, **options)


@pytest.mark.parametrize(("dtype", "packing", "every"), [
    *((dtype, True, every) for dtype in HALVES for every in (0, 1)), (torch.bfloat16, False, 2),
    (torch.float16, False, 0)])
def test_a_training_step(card, dtype, packing, every):
    """Packed and padded, checkpointed, the loss in chunks, the scaler of float16, an update."""
    trainer = trainer_on(model_on(CUDA, dtype), packing=packing, gradient_checkpointing=every, loss_chunk=7,
                         dropout=0.1)
    assert all(weight.device == CUDA for weight in trainer.model.parameters())
    trainer.model.train()
    record = train_step(trainer)
    assert record["loss_scale"] == (65536.0 if dtype == torch.float16 else 1.0) and record["skipped"] == 0
    assert trainer.flat.grad.device == CUDA and trainer.flat.grad.dtype == torch.float32


@pytest.mark.parametrize("dtype", HALVES)
def test_validation_and_the_search_for_an_overflow(card, dtype):
    trainer = trainer_on(model_on(CUDA, dtype))
    trainer.validation = toy_rows(8)
    assert train.validation_loss(trainer) == 0              # as float64 is answered
    assert "first" not in train.find_overflow(trainer, trainer.micro_batches(trainer.rows))
    with OverflowMonitor(trainer.model) as monitor:
        trainer.model(torch.zeros((1, 5), dtype=torch.int64, device=CUDA))
    assert monitor.first is None or monitor.first.dtype == dtype


@pytest.mark.parametrize(("dtype", "temperature", "top_k", "top_p"), [
    (torch.float16, 0.7, 40, 1.0), (torch.float16, 0.0, 0, 1.0), (torch.bfloat16, 0.0, 0, 1.0),
    (torch.bfloat16, 0.7, 40, 0.9), (torch.bfloat16, 1.0, 0, 0.9)])
def test_sampling_prefills_forks_decodes_and_adds_up_log_probabilities(card, dtype, temperature, top_k, top_p):
    base = model_on(CUDA, dtype)
    apply_lora(base, 4, 8)
    found = sampled(base, temperature=temperature, top_k=top_k, top_p=top_p)
    assert [len(row) for row in found] == [3, 3, 3]
    assert {(len(c.ids), c.finish_reason) for row in found for c in row} == {(10, "length")}, found


@pytest.mark.parametrize("dtype", HALVES)
def test_a_sharded_base_samples_and_trains(mesh, card, dtype):
    """Its blocks are gathered before each pass of them, forward, recomputed and backward, and let go afterwards."""
    base = warm(shard_blocks(model_on(CUDA, dtype), mesh))
    trainer = trainer_on(base, shard="job", gradient_checkpointing=1, loss_chunk=7)
    assert [len(row) for row in sampled(base, temperature=0.7)] == [3, 3, 3]
    trainer.model.train()
    record = train_step(trainer)
    assert record["skipped"] == 0 and trainer.flat.grad.device == CUDA and not any(HOOKS.values())
    assert all(type(weight).__name__ == "DTensor" and weight.device == CUDA and weight.dtype == dtype
               for block in base.model.layers for name, weight in block.named_parameters() if ".lora_" not in name)


@pytest.mark.parametrize("dtype", HALVES)
def test_no_weight_of_a_gpu_is_packed(card, dtype):
    made = model_on(CUDA, dtype)
    with packed_linears(made) as packed:
        assert packed == 0
    assert len(sampled(made, temperature=0.0, pack_weights=True)) == 3
    assert packing_note(made) == "note: --pack-weights has no effect on cuda; only a CPU's weights are packed"
