# SPDX-License-Identifier: MIT
"""A small Kimi Linear in PyTorch: KDA and MLA layers, MoE with one shared expert (docs/model.md has the equations).

ops.py has what is done fast on a GPU and plainly elsewhere.
"""
import math
import numpy as np
import torch, torch.nn as nn, torch.nn.functional as F
import ops


def config_of(reader):
    """Hyper-parameters of a kimi-linear GGUF."""
    k = lambda key: reader.get("kimi-linear." + key)
    return dict(n_embd=k("embedding_length"), n_layer=k("block_count"), n_head=k("attention.head_count"),
                kda=k("kda.head_dim"), kv_lora=k("attention.kv_lora_rank"), rope=k("rope.dimension_count"),
                nope=k("attention.key_length_mla") - k("rope.dimension_count"), vdim=k("attention.value_length_mla"),
                n_ff=k("feed_forward_length"), n_ff_exp=k("expert_feed_forward_length"), n_exp=k("expert_count"),
                n_used=k("expert_used_count"), n_shared=k("expert_shared_count"), n_vocab=k("vocab_size"),
                scale=k("expert_weights_scale"), eps=k("attention.layer_norm_rms_epsilon"),
                mla=[n > 0 for n in k("attention.head_count_kv")], dense=k("leading_dense_block_count"))


def lin(i, o, std=None):
    layer = nn.Linear(i, o, bias=False)
    nn.init.normal_(layer.weight, std=std or i ** -.5)
    return layer


class KDA(nn.Module):
    def __init__(s, c):
        super().__init__()
        E, H, D = c["n_embd"], c["n_head"], c["kda"]
        s.H, s.D, s.eps = H, D, c["eps"]
        s.q, s.k, s.v = lin(E, H * D), lin(E, H * D), lin(E, H * D)
        s.conv = nn.Parameter(torch.randn(3 * H * D, 4) * .3)
        s.f_a, s.f_b, s.g_a, s.g_b, s.beta = lin(E, D), lin(D, H * D), lin(E, D), lin(D, H * D), lin(E, H)
        s.A_log = nn.Parameter(torch.log(torch.empty(H).uniform_(1, 16)))
        s.dt = nn.Parameter(torch.full((H * D,), -4.0))
        s.norm = nn.Parameter(torch.ones(D))
        s.o = lin(H * D, E, (H * D) ** -.5 / math.sqrt(2 * c["n_layer"]))

    def forward(s, x, B):
        n, T = s.H * s.D, len(x) // B
        y = F.linear(x, torch.cat([s.q.weight, s.k.weight, s.v.weight, s.f_a.weight, s.g_a.weight, s.beta.weight]))
        qkv, f, g, beta = y.split([3 * n, s.D, s.D, s.H], -1)
        q, k, v = (t.view(B, T, s.H, s.D) for t in ops.conv_silu(qkv.view(B, T, 3 * n), s.conv.to(y.dtype)))
        o = ops.kda(q, k, v, s.f_b(f).view(B, T, s.H, s.D), beta.float().sigmoid().view(B, T, s.H), s.A_log.float(),
                    s.dt.float())
        return s.o(ops.gated_norm(o.reshape(-1, s.D), s.g_b(g).view(-1, s.D), s.norm, s.eps).view(-1, n))


class MLA(nn.Module):
    def __init__(s, c):
        super().__init__()
        E, s.H, s.R, s.N, s.P, s.V = c["n_embd"], c["n_head"], c["kv_lora"], c["nope"], c["rope"], c["vdim"]
        s.eps = c["eps"]
        s.q, s.kv_a, s.kv_b = lin(E, s.H * (s.N + s.P)), lin(E, s.R + s.P), lin(s.R, s.H * (s.N + s.V))
        s.kv_norm = nn.Parameter(torch.ones(s.R))
        s.o = lin(s.H * s.V, E, (s.H * s.V) ** -.5 / math.sqrt(2 * c["n_layer"]))

    def forward(s, x, B):
        heads = lambda a: a.view(B, len(x) // B, s.H, -1).transpose(1, 2)
        q = heads(s.q(x))
        c, pe = s.kv_a(x).split([s.R, s.P], -1)
        k, v = heads(s.kv_b(ops.rms_norm(c, s.kv_norm, s.eps))).split([s.N, s.V], -1)
        k = torch.cat([k, pe.view(B, 1, -1, s.P).expand(-1, s.H, -1, -1)], -1)
        return s.o(ops.attention(q, k, v).transpose(1, 2).reshape(len(x), -1))


class FFN(nn.Module):
    def __init__(s, E, f, c):
        super().__init__()
        s.gate, s.up, s.down = lin(E, f), lin(E, f), lin(f, E, f ** -.5 / math.sqrt(2 * c["n_layer"]))

    def forward(s, x): return s.down(ops.silu_mul(F.linear(x, torch.cat([s.gate.weight, s.up.weight]))))


class MoE(nn.Module):
    def __init__(s, c):
        super().__init__()
        E, f, N = c["n_embd"], c["n_ff_exp"], c["n_exp"]
        s.k, s.scale, s.N = c["n_used"], c["scale"], N
        s.router = lin(E, N)
        s.register_buffer("bias", torch.zeros(N))
        s.register_buffer("load", torch.zeros(N), persistent=False)
        s.gate, s.up = nn.Parameter(torch.randn(N, E, f) * E ** -.5), nn.Parameter(torch.randn(N, E, f) * E ** -.5)
        s.down = nn.Parameter(torch.randn(N, f, E) * f ** -.5 / math.sqrt(2 * c["n_layer"]))
        s.shared = FFN(E, f * c["n_shared"], c)

    def forward(s, x):
        p = s.router(x).sigmoid()
        chosen = (p + s.bias).topk(s.k, -1).indices
        w = p.gather(-1, chosen)
        w = w / w.sum(-1, keepdim=True).clamp(min=6.103515625e-5) * s.scale
        y, count = ops.experts(x, chosen, s.gate, s.up, s.down)
        s.load += count
        return ops.combine(y, w, s.shared(x))

    @torch.no_grad()
    def balance(s, rate):
        """Moves the selection bias towards equal load (auxiliary-loss-free balancing)."""
        s.bias += rate * torch.sign(s.load.mean() - s.load)
        s.load.zero_()


class Block(nn.Module):
    def __init__(s, c, i):
        super().__init__()
        s.n1, s.n2, s.eps = nn.Parameter(torch.ones(c["n_embd"])), nn.Parameter(torch.ones(c["n_embd"])), c["eps"]
        s.mix = MLA(c) if c["mla"][i] else KDA(c)
        s.ffn = FFN(c["n_embd"], c["n_ff"], c) if i < c["dense"] else MoE(c)

    def forward(s, x, B):
        """x [B * T, E]"""
        x, h = ops.add_norm(x, s.mix(ops.rms_norm(x, s.n1, s.eps), B), s.n2, s.eps)
        return x + s.ffn(h)


class LM(nn.Module):
    def __init__(s, c):
        super().__init__()
        s.c, s.emb = c, nn.Embedding(c["n_vocab"], c["n_embd"])
        s.blocks = nn.ModuleList(Block(c, i) for i in range(c["n_layer"]))
        s.norm, s.head = nn.Parameter(torch.ones(c["n_embd"])), lin(c["n_embd"], c["n_vocab"], .02)

    def hidden(s, ids):
        """ids [B, T] -> [B * T, E], normed."""
        x = s.emb(ids.flatten()).to(ops.KIND)
        for b in s.blocks: x = b(x, len(ids))
        return ops.rms_norm(x, s.norm, s.c["eps"])


def loss(h, head, target, weight):
    """Weighted mean cross-entropy, in slices so that float32 logits never stand whole."""
    def part(a, t, w): return (F.cross_entropy(F.linear(a, head.to(a.dtype)).float(), t, reduction="none") * w).sum()
    total = h.new_zeros((), dtype=torch.float32)
    for a, t, w in zip(h.split(16384), target.split(16384), weight.split(16384)):
        total = total + part(a, t, w)
    return total / weight.sum()


def names(c):
    """(GGUF name, parameter name, to GGUF, from GGUF, kept f32) of every tensor; MLA's kv_b is split apart."""
    same = lambda a: a
    H, D, R, N, V = (c[x] for x in ("n_head", "kda", "kv_lora", "nope", "vdim"))
    yield "token_embd.weight", "emb.weight", same, same, False
    yield "output_norm.weight", "norm", same, same, True
    yield "output.weight", "head.weight", same, same, False
    for i in range(c["n_layer"]):
        b, p = f"blocks.{i}.", f"blk.{i}."
        yield p + "attn_norm.weight", b + "n1", same, same, True
        yield p + "ffn_norm.weight", b + "n2", same, same, True
        yield p + "attn_output.weight", b + "mix.o.weight", same, same, False
        if c["mla"][i]:
            yield p + "attn_q.weight", b + "mix.q.weight", same, same, False
            yield p + "attn_kv_a_mqa.weight", b + "mix.kv_a.weight", same, same, False
            yield p + "attn_kv_a_norm.weight", b + "mix.kv_norm", same, same, True
        else:
            for x in "qkv": yield p + f"attn_{x}.weight", b + f"mix.{x}.weight", same, same, False
            for x in ("f_a", "f_b", "g_a", "g_b", "beta"):
                yield p + f"ssm_{x}.weight", b + f"mix.{x}.weight", same, same, False
            yield (p + "ssm_a", b + "mix.A_log", lambda a: -np.exp(a).reshape(1, 1, H, 1),
                   lambda a: np.log(-a).reshape(H), True)
            yield p + "ssm_dt.bias", b + "mix.dt", same, same, True
            yield p + "ssm_norm.weight", b + "mix.norm", same, same, True
        if i < c["dense"]:
            for x in ("gate", "up", "down"): yield p + f"ffn_{x}.weight", b + f"ffn.{x}.weight", same, same, False
        else:
            swap = lambda a: a.transpose(0, 2, 1)
            yield p + "ffn_gate_inp.weight", b + "ffn.router.weight", same, same, True
            yield p + "exp_probs_b.bias", b + "ffn.bias", same, same, True
            for x in ("gate", "up", "down"):
                yield p + f"ffn_{x}_exps.weight", b + f"ffn.{x}", swap, swap, False
                yield p + f"ffn_{x}_shexp.weight", b + f"ffn.shared.{x}.weight", same, same, False


def from_gguf(reader):
    c = config_of(reader)
    state, H, N, V, R = {}, c["n_head"], c["nope"], c["vdim"], c["kv_lora"]
    for gguf_name, name, _, back, _ in names(c): state[name] = back(reader.tensor(gguf_name))
    for i in range(c["n_layer"]):
        p, b = f"blk.{i}.", f"blocks.{i}.mix."
        if c["mla"][i]:
            k, v = reader.tensor(p + "attn_k_b.weight").transpose(0, 2, 1), reader.tensor(p + "attn_v_b.weight")
            state[b + "kv_b.weight"] = np.concatenate([k, v], 1).reshape(H * (N + V), R)
        else:
            state[b + "conv"] = np.concatenate([reader.tensor(p + f"ssm_conv1d_{x}.weight").reshape(-1, 4) for x in "qkv"])
    m = LM(c)
    m.load_state_dict({k: torch.tensor(v).float().reshape(m.state_dict()[k].shape) for k, v in state.items()})
    return m


def to_tensors(m):
    """name -> (array, kept f32), for gguf.write."""
    c, out = m.c, {}
    w = {k: v.detach().float().cpu().numpy() for k, v in m.state_dict().items()}
    for gguf_name, name, there, _, keep in names(c): out[gguf_name] = (np.ascontiguousarray(there(w[name])), keep)
    H, N, V, R = c["n_head"], c["nope"], c["vdim"], c["kv_lora"]
    for i in range(c["n_layer"]):
        p, b = f"blk.{i}.", f"blocks.{i}.mix."
        if c["mla"][i]:
            kv = w[b + "kv_b.weight"].reshape(H, N + V, R)
            out[p + "attn_k_b.weight"] = (np.ascontiguousarray(kv[:, :N].transpose(0, 2, 1)), False)
            out[p + "attn_v_b.weight"] = (np.ascontiguousarray(kv[:, N:]), False)
        else:
            for x, a in zip("qkv", np.split(w[b + "conv"], 3)):
                out[p + f"ssm_conv1d_{x}.weight"] = (a.reshape(1, -1, 1, 4), True)
    return out


class Rounding:
    """The weights rounded as a quantised GGUF has them, for a while: `with rounding:` forward and backward see the
    rounded ones, the optimiser then moves the exact ones (straight-through)."""

    def __init__(s, m, reader):
        c, parameters = m.c, dict(m.named_parameters())
        H, N, V, R = c["n_head"], c["nope"], c["vdim"], c["kv_lora"]
        views = []
        for gguf_name, name, *_, kept in names(c):
            if not kept:
                p = parameters[name].data
                views.append((gguf_name, p.transpose(1, 2) if "_exps" in gguf_name else p))
        for i in (i for i in range(c["n_layer"]) if c["mla"][i]):
            kv = parameters[f"blocks.{i}.mix.kv_b.weight"].data.view(H, N + V, R)
            views += [(f"blk.{i}.attn_k_b.weight", kv[:, :N].transpose(1, 2)), (f"blk.{i}.attn_v_b.weight", kv[:, N:])]
        s.groups = {}  # launches are what rounding costs: tensors of a type are rounded as one
        for name, v in views:
            kind = reader.info[name][1]
            if kind not in (0, 1, 30): s.groups.setdefault(kind, []).append(v)
        s.kept = {}

    @staticmethod
    def put(flat, views):
        for part, v in zip(flat.split([v.numel() for v in views]), views): v.copy_(part.view(v.shape))

    def __enter__(s):
        for kind, views in s.groups.items():
            s.kept[kind] = torch.cat([v.reshape(-1) for v in views])
            s.put(ops.round_like(s.kept[kind], kind), views)

    def __exit__(s, *_):
        for kind, views in s.groups.items(): s.put(s.kept.pop(kind), views)
