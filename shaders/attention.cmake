# The kernels of the two kinds of attention, KDA and MLA, and what other architectures than kimi-linear need.
file(GLOB attention_includes CONFIGURE_DEPENDS params_kda.h params_mla.h params_rope.h)
list(APPEND shader_includes ${attention_includes})

shader(kda_halo)
shader(kda_conv)
shader(kda_gate)
shader(kda_step)
shader(kda_chunk)
shader(kda_scan)
shader(kda_out)

shader(mla_store)
shader(mla_heads WEIGHTS)
shader(mla_split)
shader(mla_split_coop COOPMAT)
shader(mla_combine)
shader(mla_unpack WEIGHTS)
shader(mla_expand)
shader(mla_pe)
shader(mla_flash)

shader(rope)
shader(moe_route_any)
