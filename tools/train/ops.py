# SPDX-License-Identifier: MIT
"""The operations of the network twice: fast on an NVIDIA GPU (torch >= 2.9, flash-linear-attention), plain elsewhere.

The plain ones are slow, float32, run with any torch since 1.13, and say what the fast ones must compute. Shapes are
flattened to rows wherever they can be, so that torch.compile sees the same shape whatever the length of a row is.
"""
import contextlib
import torch, torch.nn.functional as F

FAST = torch.cuda.is_available()
KIND = torch.bfloat16 if FAST else torch.float32
compiled = torch.compile(dynamic=False) if FAST else lambda f: f


def mixed():
    """Around a forward pass: matrix products in bfloat16 where that is fast."""
    return torch.autocast("cuda", torch.bfloat16) if FAST else contextlib.nullcontext()


@compiled
def conv_silu(x, w):
    """x [B, T, 3 * C], w [3 * C, 4] (tap 3 is the present token) -> causal depthwise convolution, then SiLU; in three."""
    T = x.shape[1]
    p = F.pad(x, (0, 0, 3, 0))
    y = F.silu(p[:, :T] * w[:, 0] + p[:, 1:T + 1] * w[:, 1] + p[:, 2:T + 2] * w[:, 2] + p[:, 3:] * w[:, 3])
    return tuple(part.contiguous() for part in y.chunk(3, -1))


@compiled
def gated_norm(o, z, gain, eps):
    """Rows of a head: RMS norm of o, times the sigmoid of z."""
    o = o.float()
    return (o * torch.rsqrt((o * o).mean(-1, keepdim=True) + eps) * gain * z.float().sigmoid()).to(KIND)


def _norm(x, gain, eps):
    f = x.float()
    return (f * torch.rsqrt((f * f).mean(-1, keepdim=True) + eps) * gain).to(KIND)


rms_norm = compiled(_norm)


@compiled
def add_norm(x, y, gain, eps):
    """-> x + y and its RMS norm."""
    x = x + y
    return x, _norm(x, gain, eps)


@compiled
def silu_mul(both):
    """SiLU of the first half of every row, times the second."""
    a, b = both.chunk(2, -1)
    return F.silu(a) * b


@compiled
def combine(y, w, shared):
    """y [n, k, E] of the chosen experts, weighted by w [n, k], plus the shared expert's."""
    return (y.float() * w[..., None]).sum(1).to(shared.dtype) + shared


def unlearned():
    """Around a forward pass without a backward. The fast one keeps the gradients on: off, all would compile again."""
    return contextlib.nullcontext() if FAST else torch.no_grad()


def kda_plain(q, k, v, f, beta, A_log, dt):
    """Kimi Delta Attention, token by token. q, k, v, f [B, T, H, D], beta [B, T, H]; f: before bias and softplus.
    S <- diag(exp(g)) S + beta k (v - k' diag(exp(g)) S), o = S' q / sqrt(D); q and k of length one."""
    B, T, H, D = q.shape
    unit = lambda a: a * torch.rsqrt((a * a).sum(-1, keepdim=True) + 1e-6)
    q, k = unit(q) * D ** -.5, unit(k)
    decay = torch.exp(-torch.exp(A_log)[:, None] * F.softplus(f + dt.view(H, D)))
    S, out = q.new_zeros(B, H, D, D), []
    for q1, k1, v1, d1, b1 in zip(*(a.unbind(1) for a in (q, k, v, decay, beta))):
        S = S * d1[..., None]
        missing = (v1 - (k1[:, :, None] @ S)[:, :, 0]) * b1[..., None]
        S = S + k1[..., None] * missing[:, :, None]
        out.append((q1[:, :, None] @ S)[:, :, 0])
    return torch.stack(out, 1)


def kda(q, k, v, f, beta, A_log, dt):
    if not FAST: return kda_plain(q, k, v, f, beta, A_log, dt)
    from fla.ops.kda import chunk_kda
    return chunk_kda(q=q.contiguous(), k=k.contiguous(), v=v.contiguous(), g=f, beta=beta.to(q.dtype), A_log=A_log,
                     dt_bias=dt, use_qk_l2norm_in_kernel=True, use_gate_in_kernel=True)[0]


def attention(q, k, v):
    """Causal. q, k [B, H, T, D], v [B, H, T, V]."""
    if FAST: return F.scaled_dot_product_attention(q, k, F.pad(v, (0, q.shape[-1] - v.shape[-1])),
                                                   is_causal=True)[..., :v.shape[-1]]
    T = q.shape[2]
    hidden = torch.ones(T, T, dtype=torch.bool, device=q.device).triu(1)
    return ((q @ k.transpose(-1, -2) * q.shape[-1] ** -.5).masked_fill(hidden, -float("inf"))).softmax(-1) @ v


class Permute(torch.autograd.Function):
    """Rows of x, each k times, sorted by `order`; `back` undoes order. Backward gathers too: adding rows into places
    with atomics is six times as slow."""

    @staticmethod
    def forward(ctx, x, order, back, k):
        ctx.save_for_backward(back)
        ctx.k = k
        return x.index_select(0, torch.div(order, k, rounding_mode="floor") if k > 1 else order)

    @staticmethod
    def backward(ctx, g):
        g = g.index_select(0, ctx.saved_tensors[0])
        return (g.view(-1, ctx.k, g.shape[-1]).sum(1) if ctx.k > 1 else g), None, None, None


def experts(x, chosen, gate, up, down):
    """x [n, E], chosen [n, k] -> [n, k, E]. gate, up [N, E, f], down [N, f, E]."""
    n, k = chosen.shape
    flat = chosen.flatten()
    order = flat.to(torch.int16).argsort()  # two passes of a radix sort instead of eight
    back = torch.empty_like(order)
    back[order] = torch.arange(len(order), device=order.device)
    xs = Permute.apply(x, order, back, k)
    count = torch.zeros(len(gate), device=x.device, dtype=torch.int32)
    count.scatter_add_(0, flat, torch.ones_like(flat, dtype=torch.int32))  # bincount would wait for the device
    ends = count.cumsum(0).to(torch.int32)
    both = torch.cat([gate, up], -1)
    if FAST: y = torch._grouped_mm(silu_mul(torch._grouped_mm(xs, both.to(KIND), offs=ends)), down.to(KIND), offs=ends)
    else: y = torch.cat([silu_mul(p @ b) @ d for p, b, d in zip(xs.split(count.tolist()), both, down)])
    return Permute.apply(y, back, order, 1).view(n, k, -1), count


# ------------------------------------------------------------------------------------- rounding like a block format
IQ4 = (-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113)
# GGUF type: (weights a scale, bits, whether a block has a least value too)
FORMATS = {2: (32, 4, False), 3: (32, 4, True), 6: (32, 5, False), 7: (32, 5, True), 8: (32, 8, False), 10: (16, 2, True),
           11: (16, 3, False), 12: (32, 4, True), 13: (32, 5, True), 14: (16, 6, False)}


def round_symmetric(b, bits):
    """The extreme weight of a block becomes the lowest level; of a few scales the one that errs least."""
    low, high = -(1 << bits - 1), (1 << bits - 1) - 1
    extreme = b.gather(-1, b.abs().argmax(-1, keepdim=True))
    best = error = None
    for shrink in (1, .92, .84, .76) if bits < 6 else (1,):
        scale = extreme * (shrink / low)
        inverse = torch.where(scale == 0, scale, 1 / scale)
        r = (b * inverse).round().clamp(low, high) * scale
        e = ((r - b) ** 2 * b * b).sum(-1, keepdim=True)
        if best is None: best, error = r, e
        else: best, error = torch.where(e < error, r, best), torch.minimum(e, error)
    return best


def round_least(b, bits):
    least = b.amin(-1, keepdim=True).clamp(max=0)
    step = ((b.amax(-1, keepdim=True) - least) / ((1 << bits) - 1)).clamp(min=1e-12)
    return ((b - least) / step).round().clamp(0, (1 << bits) - 1) * step + least


def round_iq4(b):
    levels = torch.tensor(IQ4, dtype=b.dtype, device=b.device)
    scale = b.gather(-1, b.abs().argmax(-1, keepdim=True)) / levels[0]
    inverse = torch.where(scale == 0, scale, 1 / scale)
    return levels[torch.bucketize((b * inverse).contiguous(), (levels[1:] + levels[:-1]) / 2)] * scale


@torch.no_grad()
def round_like(w, gguf_type):
    """w, its last dimension in blocks, with the error that the format gives it (scales stay exact)."""
    if gguf_type == 20: return round_iq4(w.reshape(-1, 32)).view(w.shape)
    size, bits, has_least = FORMATS[gguf_type]
    b = w.reshape(-1, size)
    return (round_least(b, bits) if has_least else round_symmetric(b, bits)).view(w.shape)
