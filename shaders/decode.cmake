# The kernels for answering, one token at a time, on hardware.
file(GLOB decode_includes CONFIGURE_DEPENDS params_decode.h)
list(APPEND shader_includes ${decode_includes})

shader(matvec_one WEIGHTS)
shader(moe_up_one WEIGHTS)
shader(moe_down_one WEIGHTS)
shader(kda_one WEIGHTS)
shader(mla_heads_one WEIGHTS)
