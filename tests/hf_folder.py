# SPDX-License-Identifier: MIT
"""For tests/convert.sh, with the standard library alone.

hf_folder.py make IN.gguf DIR [N]   the Hugging Face folder that IN.gguf could have been converted from, in N files
hf_folder.py same A.gguf B.gguf     exit code 1, and what differs, unless both hold the same metadata and tensors

The way back of what the converter does: A_log = log(-ssm_a), kv_b put together, experts taken apart, tokens to bytes.
"""
import base64
import json
import math
import os
import struct
import sys

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TYPES = {0: ("F32", 1, 4), 1: ("F16", 1, 2), 8: ("Q8_0", 32, 34), 30: ("BF16", 1, 2)}


class Gguf:
    def __init__(self, path):
        self.data = open(path, "rb").read()
        self.at = 24
        n_tensors, n_values = struct.unpack_from("<QQ", self.data, 8)
        self.values = {}
        for _ in range(n_values):
            key = self.text()
            self.values[key] = self.value(self.number("I"))
        infos = []
        for _ in range(n_tensors):
            name = self.text()
            ne = [self.number("Q") for _ in range(self.number("I"))]
            infos.append((name, ne, self.number("I"), self.number("Q")))
        start = (self.at + 31) // 32 * 32
        self.tensors = {}
        for name, ne, kind, offset in infos:
            _, block_len, block_bytes = TYPES[kind]
            size = math.prod(ne) // block_len * block_bytes
            self.tensors[name] = (kind, ne, self.data[start + offset:start + offset + size])

    def number(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def text(self):
        n = self.number("Q")
        self.at += n
        return self.data[self.at - n:self.at].decode()

    def value(self, kind):
        if kind == 8:
            return kind, self.text()
        if kind == 9:
            inner, n = self.number("I"), self.number("Q")
            return inner + 100, [self.value(inner)[1] for _ in range(n)]
        return kind, self.number(SCALARS[kind])

    def get(self, key):
        return self.values[key][1] if key in self.values else None


def token_bytes(text):
    shown = [b for b in range(256) if 33 <= b < 127 or 161 <= b < 256 and b != 173]
    table = {chr(b): b for b in shown}
    table.update({chr(256 + i): b for i, b in enumerate(b for b in range(256) if b not in shown)})
    return bytes(table[c] for c in text)


def make_config(g):
    k = lambda name: g.get("kimi-linear." + name)
    kv = k("attention.head_count_kv")
    return {
        "architectures": ["KimiLinearForCausalLM"], "model_type": "kimi_linear", "hidden_act": "silu",
        "vocab_size": k("vocab_size"), "model_max_length": k("context_length"), "hidden_size": k("embedding_length"),
        "num_hidden_layers": k("block_count"), "intermediate_size": k("feed_forward_length"), "head_dim": 72,
        "num_attention_heads": k("attention.head_count"), "num_key_value_heads": k("attention.head_count"),
        "kv_lora_rank": k("attention.kv_lora_rank"), "q_lora_rank": None, "qk_rope_head_dim": k("rope.dimension_count"),
        "qk_nope_head_dim": k("attention.key_length_mla") - k("rope.dimension_count"),
        "v_head_dim": k("attention.value_length_mla"), "mla_use_nope": True, "rope_scaling": None,
        "rope_theta": k("rope.freq_base"), "rms_norm_eps": k("attention.layer_norm_rms_epsilon"),
        "linear_attn_config": {
            "full_attn_layers": [i + 1 for i, n in enumerate(kv) if n],
            "kda_layers": [i + 1 for i, n in enumerate(kv) if not n],
            "head_dim": k("kda.head_dim"), "num_heads": k("attention.head_count"),
            "short_conv_kernel_size": k("ssm.conv_kernel")},
        "num_experts": k("expert_count"), "num_experts_per_token": k("expert_used_count"),
        "num_shared_experts": k("expert_shared_count"), "moe_intermediate_size": k("expert_feed_forward_length"),
        "first_k_dense_replace": k("leading_dense_block_count"), "routed_scaling_factor": k("expert_weights_scale"),
        "moe_layer_freq": 1, "moe_renormalize": True, "moe_router_activation_func": "sigmoid", "num_expert_group": 1,
        "tie_word_embeddings": False, "num_nextn_predict_layers": 0,
        "eos_token_id": g.get("tokenizer.ggml.eot_token_id"),
    }


def make_tokenizer(g, folder):
    tokens, types = g.get("tokenizer.ggml.tokens"), g.get("tokenizer.ggml.token_type")
    with open(folder + "/tiktoken.model", "wb") as out:
        for i, (token, kind) in enumerate(zip(tokens, types)):
            if kind == 1:
                out.write(base64.b64encode(token_bytes(token)) + b" %d\n" % i)
    config = {
        "added_tokens_decoder": {str(i): {"content": t, "special": True}
                                 for i, (t, kind) in enumerate(zip(tokens, types)) if kind == 3},
        "bos_token": tokens[g.get("tokenizer.ggml.bos_token_id")],
        "eos_token": {"content": tokens[g.get("tokenizer.ggml.eos_token_id")]},
        "pad_token": tokens[g.get("tokenizer.ggml.padding_token_id")],
        "unk_token": None, "add_bos_token": g.get("tokenizer.ggml.add_bos_token"),
        "chat_template": "{{ messages }}\n\"\u2014\U0001f600\"",
    }
    json.dump(config, open(folder + "/tokenizer_config.json", "w"), indent=1)


NAMES = {
    "attn_norm.weight": "input_layernorm.weight", "ffn_norm.weight": "post_attention_layernorm.weight",
    "attn_q.weight": "self_attn.q_proj.weight", "attn_k.weight": "self_attn.k_proj.weight",
    "attn_v.weight": "self_attn.v_proj.weight", "attn_output.weight": "self_attn.o_proj.weight",
    "ssm_conv1d_q.weight": "self_attn.q_conv1d.weight", "ssm_conv1d_k.weight": "self_attn.k_conv1d.weight",
    "ssm_conv1d_v.weight": "self_attn.v_conv1d.weight", "ssm_f_a.weight": "self_attn.f_a_proj.weight",
    "ssm_f_b.weight": "self_attn.f_b_proj.weight", "ssm_g_a.weight": "self_attn.g_a_proj.weight",
    "ssm_g_b.weight": "self_attn.g_b_proj.weight", "ssm_beta.weight": "self_attn.b_proj.weight",
    "ssm_dt.bias": "self_attn.dt_bias", "ssm_norm.weight": "self_attn.o_norm.weight",
    "attn_kv_a_mqa.weight": "self_attn.kv_a_proj_with_mqa.weight",
    "attn_kv_a_norm.weight": "self_attn.kv_a_layernorm.weight",
    "ffn_gate.weight": "mlp.gate_proj.weight", "ffn_up.weight": "mlp.up_proj.weight",
    "ffn_down.weight": "mlp.down_proj.weight", "ffn_gate_inp.weight": "block_sparse_moe.gate.weight",
    "exp_probs_b.bias": "block_sparse_moe.gate.e_score_correction_bias",
    "ffn_gate_shexp.weight": "block_sparse_moe.shared_experts.gate_proj.weight",
    "ffn_up_shexp.weight": "block_sparse_moe.shared_experts.up_proj.weight",
    "ffn_down_shexp.weight": "block_sparse_moe.shared_experts.down_proj.weight",
}
EXPERTS = {"ffn_gate_exps.weight": "w1", "ffn_down_exps.weight": "w2", "ffn_up_exps.weight": "w3"}
GLOBALS = {"token_embd.weight": "model.embed_tokens.weight", "output_norm.weight": "model.norm.weight",
           "output.weight": "lm_head.weight"}


def put_together(keys, values, kind):
    """attn_k_b [nope, lora, heads] and attn_v_b [lora, v, heads] -> kv_b [heads * (nope + v)][lora]"""
    width = TYPES[kind][2]
    (nope, lora, heads), v_dim = keys[1], values[1][1]
    data = bytearray()
    for h in range(heads):
        head = keys[2][h * lora * nope * width:(h + 1) * lora * nope * width]
        for i in range(nope):
            data += b"".join(head[(r * nope + i) * width:(r * nope + i + 1) * width] for r in range(lora))
        data += values[2][h * v_dim * lora * width:(h + 1) * v_dim * lora * width]
    return [heads * (nope + v_dim), lora], bytes(data)


def take_apart(g):
    """(name, dtype, shape, bytes) of each tensor of the folder"""
    for name, (kind, ne, data) in g.tensors.items():
        shape, dtype = ne[::-1], TYPES[kind][0]
        if name in GLOBALS:
            yield GLOBALS[name], dtype, shape, data
            continue
        _, layer, rest = name.split(".", 2)
        prefix = "model.layers.%s." % layer
        if rest in NAMES:
            yield prefix + NAMES[rest], dtype, shape, data
        elif rest in EXPERTS:
            size = len(data) // shape[0]
            for e in range(shape[0]):
                yield ("%sblock_sparse_moe.experts.%d.%s.weight" % (prefix, e, EXPERTS[rest]), dtype, shape[1:],
                       data[e * size:(e + 1) * size])
        elif rest == "ssm_a":
            logs = [math.log(-x) for x in struct.unpack("<%df" % ne[1], data)]
            yield prefix + "self_attn.A_log", "F32", [1, 1, ne[1], 1], struct.pack("<%df" % ne[1], *logs)
        elif rest == "attn_k_b.weight":
            values = g.tensors["blk.%s.attn_v_b.weight" % layer]
            yield (prefix + "self_attn.kv_b_proj.weight", dtype) + put_together((kind, ne, data), values, kind)
        elif rest != "attn_v_b.weight":
            sys.exit("hf_folder.py knows no tensor " + name)


def write_safetensors(path, tensors):
    header, at = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, data in tensors:
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as out:
        out.write(struct.pack("<Q", len(text)) + text)
        for _, _, _, data in tensors:
            out.write(data)


def make(path, folder, n_files):
    g = Gguf(path)
    os.makedirs(folder)
    json.dump(make_config(g), open(folder + "/config.json", "w"), indent=1)
    make_tokenizer(g, folder)
    tensors = list(take_apart(g))
    if n_files == 1:
        return write_safetensors(folder + "/model.safetensors", tensors)
    index = {}
    for i in range(n_files):
        name = "model-%05d-of-%05d.safetensors" % (i + 1, n_files)
        write_safetensors(folder + "/" + name, tensors[i::n_files])
        index.update({t[0]: name for t in tensors[i::n_files]})
    json.dump({"metadata": {}, "weight_map": index}, open(folder + "/model.safetensors.index.json", "w"))


def same_decay(a, b):
    """A_log is rounded to f32 (half an ulp of up to 4, 2.4e-7 at most), then its exponential is."""
    n = len(a) // 4
    return all(abs(x - y) <= 4e-7 * abs(x) for x, y in zip(struct.unpack("<%df" % n, a), struct.unpack("<%df" % n, b)))


def same(first, second):
    a, b = Gguf(first), Gguf(second)
    bad = []
    # Not from the old file: the new one's type where that had none, and the template, which make() invents.
    extra = {"general.file_type"} - set(a.values) | {"tokenizer.chat_template"}
    types = a.get("tokenizer.ggml.token_type")
    for key in sorted((set(a.values) | set(b.values)) - extra):
        x, y = a.values.get(key), b.values.get(key)
        if key == "tokenizer.ggml.tokens" and x and y:
            # Unused tokens have no name in the folder.
            x, y = ((k, [t for t, kind in zip(v, types) if kind != 5]) for k, v in (x, y))
        if x != y:
            bad.append("%s: %.300r, %.300r" % (key, x, y))
    if b.get("tokenizer.chat_template") != "{{ messages }}\n\"\u2014\U0001f600\"":
        bad.append("the chat template is %r" % b.get("tokenizer.chat_template"))
    for name in sorted(set(a.tensors) | set(b.tensors)):
        x, y = a.tensors.get(name), b.tensors.get(name)
        if not x or not y or x[:2] != y[:2]:
            bad.append("%s: %r, %r" % (name, x and x[:2], y and y[:2]))
        elif x[2] != y[2] and not (name.endswith("ssm_a") and same_decay(x[2], y[2])):
            bad.append("%s has other weights" % name)
    print("\n".join(bad), end="\n" if bad else "")
    return 1 if bad else 0


if sys.argv[1] == "make":
    make(sys.argv[2], sys.argv[3], int(sys.argv[4]) if len(sys.argv) > 4 else 1)
else:
    sys.exit(same(sys.argv[2], sys.argv[3]))
