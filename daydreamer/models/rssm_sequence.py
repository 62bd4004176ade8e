"""The posterior of a whole sequence, with its backward pass written by hand.

Autograd would compute, for each of T steps, the gradient of every weight from the B rows of that step, and add it to
those of the other steps. Here the loop back through time computes what has to wait for its turn, the gradients of the
states; those of the weights follow for all T * B rows in one product each. Everything is float32.

One step, in the notation of the code below; `k` is zero where an episode starts, [.] joins, and `act` is LayerNorm,
then SiLU:

    h, z = k * deter, k * stoch                          what is remembered
    d, s = act(h Wd), act(z Ws)
    m    = action_term + [d s] Wx + h Wh                 Wh and Wg are block-diagonal
    r, c, u = act(m) Wg + bg                             reset, candidate, update
    deter   = h + sigmoid(u - 1) (tanh(sigmoid(r) c) - h)
    q    = embed_term + deter Wp
    probs = (1 - mix) softmax(act(q) Wo + bo) + mix / C,  stoch ~ probs

Gradients pass from `stoch` straight to `probs`. tests/models/test_rssm_sequence.py holds it to autograd.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from daydreamer.nn.distributions import sample_one_hot
from daydreamer.nn.layers import EPSILON

_aten = torch.ops.aten


class Norm(NamedTuple):
    """Weight and bias of a LayerNorm."""

    weight: Tensor
    bias: Tensor


class Weights(NamedTuple):
    """All that the step learns. Matrices lie as in their layers: [out, in], block-diagonal ones [blocks, in, out]."""

    deter: Tensor
    deter_norm: Norm
    stoch: Tensor
    stoch_norm: Norm
    mixed: Tensor
    recurrent: Tensor
    mixed_norm: Norm
    gates: Tensor
    gates_bias: Tensor
    posterior: Tensor
    posterior_norm: Norm
    logits: Tensor
    logits_bias: Tensor


def posterior_sequence(state: tuple[Tensor, Tensor], action_terms: Tensor, embed_terms: Tensor, keep: Tensor,
                       noise: Tensor, weights: Weights, unimix: float) -> tuple[Tensor, Tensor, Tensor]:
    """T steps from `state`, deter [B, D] and stoch [B, S * C]: deter [B, T, D], stoch [B, T, S * C] and the
    probabilities of the posterior [B, T, S, C].

    action_terms [B, T, D], embed_terms [B, T, H], keep [B, T, 1] zero where an episode starts, noise [B, T, S].
    """
    with torch.autocast(action_terms.device.type, enabled=False):
        results = _Sequence.apply(unimix, noise, keep, *(x.float() for x in (*state, action_terms, embed_terms)),
                                  *_flat(weights))
    return tuple(x.transpose(0, 1) for x in results)


class _Active(NamedTuple):
    """What the way back through an activation needs: its input, the norm's output, mean and inverse deviation."""

    x: Tensor
    normed: Tensor
    mean: Tensor
    inverse: Tensor


class _Step(NamedTuple):
    """What the way back through a step needs; named as in the module's docstring. Grouped: [blocks, B, D / blocks]."""

    h: Tensor
    z: Tensor
    d: _Active
    s: _Active
    joined: Tensor
    m: _Active
    y: Tensor  # grouped, as are the next four
    reset: Tensor
    gate: Tensor  # the candidate before its reset
    candidate: Tensor
    update: Tensor
    q: _Active
    v: Tensor
    soft: Tensor


class _Sequence(torch.autograd.Function):
    """`posterior_sequence` with the time axis first in its results."""

    @staticmethod
    def forward(ctx, unimix, noise, keep, deter, stoch, action_terms, embed_terms, *flat):  # noqa: ANN001, ANN205
        """Step by step; what each step's gradient needs is kept."""
        weights = _nested(flat)
        ctx.weights, ctx.unimix, ctx.keep, ctx.steps, ctx.deters = weights, unimix, keep.unbind(1), [], []
        stochs, probs = [], []
        for step in zip(*(x.unbind(1) for x in (action_terms, embed_terms, keep, noise)), strict=True):
            deter, stoch, prob, saved = _forward(weights, unimix, deter, stoch, *step)
            for kept, x in zip((ctx.deters, stochs, probs, ctx.steps), (deter, stoch, prob, saved), strict=True):
                kept.append(x)
        return torch.stack(ctx.deters), torch.stack(stochs), torch.stack(probs)

    @staticmethod
    @once_differentiable
    def backward(ctx, by_deters, by_stochs, by_probs):  # noqa: ANN001, ANN205
        """Step by step in reverse; the weights' gradients for all steps at once behind it."""
        steps, by_deter, by_stoch, found = ctx.steps, 0.0, 0.0, []
        for t in reversed(range(len(steps))):
            grads = _backward(ctx.weights, ctx.unimix, steps[t], by_deters[t] + by_deter, by_stochs[t] + by_stoch,
                              by_probs[t])
            by_deter, by_stoch = grads.h * ctx.keep[t], grads.z * ctx.keep[t]
            found.append(grads)
        found.reverse()
        terms = (torch.stack([getattr(g, name) for g in found], 1) for name in ("m", "q"))
        return None, None, None, by_deter, by_stoch, *terms, *_weight_gradients(ctx.weights, steps, found, ctx.deters)


def _forward(w: Weights, unimix: float, deter: Tensor, stoch: Tensor, action_term: Tensor, embed_term: Tensor,
             keep: Tensor, noise: Tensor) -> tuple[Tensor, Tensor, Tensor, _Step]:
    blocks = len(w.gates)
    h, z = deter * keep, stoch * keep
    d, d_saved = _activate(h @ w.deter.T, w.deter_norm)
    s, s_saved = _activate(z @ w.stoch.T, w.stoch_norm)
    joined = torch.cat([d, s], -1)
    old = _grouped(h, blocks)
    m = torch.addmm(action_term, joined, w.mixed.T) + _joined(torch.bmm(old, w.recurrent))
    y, m_saved = _activate(m, w.mixed_norm)
    y = _grouped(y, blocks)
    reset, gate, update = torch.baddbmm(w.gates_bias.view(blocks, 1, -1), y, w.gates).chunk(3, -1)
    reset, update = torch.sigmoid(reset), torch.sigmoid(update - 1)
    candidate = torch.tanh(reset * gate)
    deter = _joined(torch.lerp(old, candidate, update))
    v, q_saved = _activate(torch.addmm(embed_term, deter, w.posterior.T), w.posterior_norm)
    soft = torch.softmax(torch.addmm(w.logits_bias, v, w.logits.T).unflatten(-1, (noise.shape[-1], -1)), -1)
    probs = soft * (1 - unimix) + unimix / soft.shape[-1]
    saved = _Step(h, z, d_saved, s_saved, joined, m_saved, y, reset, gate, candidate, update, q_saved, v, soft)
    return deter, sample_one_hot(probs, noise).flatten(-2), probs, saved


class _Gradients(NamedTuple):
    """Gradients of one step by what its docstring names so; `*_normed` by the outputs of the norms."""

    h: Tensor
    z: Tensor
    d: Tensor
    d_normed: Tensor
    s: Tensor
    s_normed: Tensor
    m: Tensor
    m_normed: Tensor
    gates: Tensor  # [blocks, B, 3 D / blocks]
    q: Tensor
    q_normed: Tensor
    logits: Tensor


def _backward(w: Weights, unimix: float, saved: _Step, by_deter: Tensor, by_stoch: Tensor,
              by_probs: Tensor) -> _Gradients:
    blocks, soft = len(w.gates), saved.soft
    by_probs = (by_probs + by_stoch.view_as(soft)) * (1 - unimix)
    logits = _aten._softmax_backward_data(by_probs, soft, -1, soft.dtype).flatten(-2)
    q, q_normed = _activate_backward(logits @ w.logits, saved.q, w.posterior_norm)
    by_new = _grouped(torch.addmm(by_deter, q, w.posterior), blocks)
    by_candidate = by_new * saved.update
    by_product = _aten.tanh_backward(by_candidate, saved.candidate)
    reset = _aten.sigmoid_backward(by_product * saved.gate, saved.reset)
    update = _aten.sigmoid_backward(by_new * (saved.candidate - _grouped(saved.h, blocks)), saved.update)
    gates = torch.cat([reset, by_product * saved.reset, update], -1)
    m, m_normed = _activate_backward(_joined(torch.bmm(gates, w.gates.transpose(1, 2))), saved.m, w.mixed_norm)
    by_d, by_s = (m @ w.mixed).chunk(2, -1)
    d, d_normed = _activate_backward(by_d, saved.d, w.deter_norm)
    s, s_normed = _activate_backward(by_s, saved.s, w.stoch_norm)
    through = torch.baddbmm(by_new - by_candidate, _grouped(m, blocks), w.recurrent.transpose(1, 2))
    h = torch.addmm(_joined(through), d, w.deter)
    return _Gradients(h, s @ w.stoch, d, d_normed, s, s_normed, m, m_normed, gates, q, q_normed, logits)


def _weight_gradients(w: Weights, steps: list[_Step], found: list[_Gradients], deters: list[Tensor]) -> list[Tensor]:
    """In the order of `_flat(w)`, each from all T * B rows at once."""
    def step(name: str) -> Tensor | _Active:
        return _all_rows([getattr(x, name) for x in steps])

    def grad(name: str) -> Tensor:
        return _all_rows([getattr(x, name) for x in found])

    def norm(name: str, weights: Norm) -> Norm:
        return Norm(*_norm_backward(grad(f"{name}_normed"), step(name), weights, [False, True, True])[1:])

    h, m, gates, logits, blocks = step("h"), grad("m"), grad("gates"), grad("logits"), len(w.gates)
    return _flat(Weights(
        deter=grad("d").T @ h, deter_norm=norm("d", w.deter_norm),
        stoch=grad("s").T @ step("z"), stoch_norm=norm("s", w.stoch_norm),
        mixed=m.T @ step("joined"), recurrent=_grouped(h, blocks).transpose(1, 2) @ _grouped(m, blocks),
        mixed_norm=norm("m", w.mixed_norm),
        gates=step("y").transpose(1, 2) @ gates, gates_bias=gates.sum(1).flatten(),
        posterior=grad("q").T @ torch.cat(deters), posterior_norm=norm("q", w.posterior_norm),
        logits=logits.T @ step("v"), logits_bias=logits.sum(0)))


def _all_rows(parts: list) -> Tensor | _Active:
    """The same thing of T steps as one, with T * B rows: the second axis of what is grouped by blocks."""
    if isinstance(parts[0], _Active):
        return _Active(*(torch.cat(x) for x in zip(*parts, strict=True)))
    return torch.cat(parts, -2)


def _activate(x: Tensor, norm: Norm) -> tuple[Tensor, _Active]:
    normed, mean, inverse = torch.native_layer_norm(x, x.shape[-1:], *norm, EPSILON)
    return F.silu(normed), _Active(x, normed, mean, inverse)


def _activate_backward(by_active: Tensor, saved: _Active, norm: Norm) -> tuple[Tensor, Tensor]:
    """Gradients by the activation's input and by what its norm gave."""
    by_normed = _aten.silu_backward(by_active, saved.normed)
    return _norm_backward(by_normed, saved, norm, [True, False, False])[0], by_normed


def _norm_backward(by_normed: Tensor, saved: _Active, norm: Norm, wanted: list[bool]) -> tuple:
    shape = saved.x.shape[-1:]
    return _aten.native_layer_norm_backward(by_normed, saved.x, shape, saved.mean, saved.inverse, *norm, wanted)


def _grouped(x: Tensor, blocks: int) -> Tensor:
    """[B, F] to [blocks, B, F / blocks], without a copy."""
    return x.view(len(x), blocks, -1).transpose(0, 1)


def _joined(x: Tensor) -> Tensor:
    """The inverse of `_grouped`."""
    return x.transpose(0, 1).reshape(x.shape[1], -1)


def _flat(weights: Weights) -> list[Tensor]:
    return [x for entry in weights for x in (entry if isinstance(entry, Norm) else (entry,))]


def _nested(flat: tuple[Tensor, ...]) -> Weights:
    """The inverse of `_flat`."""
    x = iter(flat)
    return Weights(*(Norm(next(x), next(x)) if name.endswith("_norm") else next(x) for name in Weights._fields))
