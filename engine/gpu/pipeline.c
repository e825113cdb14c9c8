/* SPDX-License-Identifier: MIT
 *
 * Kernels: a shader and its specialisation constants make a pipeline, when first dispatched. All share one layout: push
 * constants, and the descriptor of the codebooks.
 */
#include "engine/gpu/gpu.h"

#include <stdlib.h>
#include <string.h>

enum { PUSH_BYTES = 128 };

struct gpu_kernel {
    struct gpu_kernel *next;
    VkPipeline pipeline;
    uint32_t spec[GPU_SPECS];
};

int gpu_pipelines_create(struct gpu *gpu, struct error *error)
{
    const VkPushConstantRange push = {.stageFlags = VK_SHADER_STAGE_COMPUTE_BIT, .size = PUSH_BYTES};
    int rc = gpu_codebook_layout(gpu, error);
    if (rc) return rc;
    const VkPipelineLayoutCreateInfo layout = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO,
        .setLayoutCount = 1,
        .pSetLayouts = &gpu->codebook.layout,
        .pushConstantRangeCount = 1,
        .pPushConstantRanges = &push,
    };
    const VkPipelineCacheCreateInfo cache = {.sType = VK_STRUCTURE_TYPE_PIPELINE_CACHE_CREATE_INFO};
    VkResult r = gpu->vk.CreatePipelineLayout(gpu->device, &layout, NULL, &gpu->pipeline_layout);
    if (!r) r = gpu->vk.CreatePipelineCache(gpu->device, &cache, NULL, &gpu->pipeline_cache);
    return gpu_result(error, r, "preparing kernels");
}

void gpu_pipelines_destroy(struct gpu *gpu)
{
    for (uint32_t i = 0; i < SHADER_COUNT; i++) {
        while (gpu->kernels[i]) {
            struct gpu_kernel *kernel = gpu->kernels[i];
            gpu->kernels[i] = kernel->next;
            gpu->vk.DestroyPipeline(gpu->device, kernel->pipeline, NULL);
            free(kernel);
        }
    }
    if (gpu->pipeline_cache) gpu->vk.DestroyPipelineCache(gpu->device, gpu->pipeline_cache, NULL);
    if (gpu->pipeline_layout) gpu->vk.DestroyPipelineLayout(gpu->device, gpu->pipeline_layout, NULL);
    gpu_codebook_destroy(gpu);
}

static VkResult pipeline_create(struct gpu *gpu, const struct gpu_dispatch *d, VkPipeline *out)
{
    const struct shader_code *code = &shader_codes[d->shader];
    VkSpecializationMapEntry entries[GPU_SPECS];
    for (uint32_t i = 0; i < GPU_SPECS; i++)
        entries[i] = (VkSpecializationMapEntry){i, i * (uint32_t)sizeof(uint32_t), sizeof(uint32_t)};
    const VkSpecializationInfo spec = {d->n_spec, entries, d->n_spec * sizeof(uint32_t), d->spec};
    const VkShaderModuleCreateInfo module_info = {
        .sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO,
        .codeSize = code->bytes,
        .pCode = code->words,
    };
    VkShaderModule module;
    VkResult r = gpu->vk.CreateShaderModule(gpu->device, &module_info, NULL, &module);
    if (r) return r;
    const VkPipelineShaderStageRequiredSubgroupSizeCreateInfo subgroup = {
        .sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_REQUIRED_SUBGROUP_SIZE_CREATE_INFO,
        .requiredSubgroupSize = gpu->caps.subgroup,
    };
    const VkComputePipelineCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO,
        .stage = {.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO,
                  .pNext = gpu->caps.subgroup_control ? &subgroup : NULL,
                  .stage = VK_SHADER_STAGE_COMPUTE_BIT,
                  .module = module,
                  .pName = "main",
                  .pSpecializationInfo = &spec},
        .layout = gpu->pipeline_layout,
    };
    r = gpu->vk.CreateComputePipelines(gpu->device, gpu->pipeline_cache, 1, &info, NULL, out);
    gpu->vk.DestroyShaderModule(gpu->device, module, NULL);
    return r;
}

VkPipeline gpu_pipeline(struct gpu *gpu, const struct gpu_dispatch *d)
{
    if (d->shader >= SHADER_COUNT || d->n_spec > GPU_SPECS || d->params_bytes > PUSH_BYTES) {
        gpu_fail(gpu, ERROR_FAILED, "%s: no such kernel in this build", d->label);
        return VK_NULL_HANDLE;
    }
    for (struct gpu_kernel *k = gpu->kernels[d->shader]; k; k = k->next)
        if (!memcmp(k->spec, d->spec, sizeof k->spec)) return k->pipeline;

    struct gpu_kernel *kernel = calloc(1, sizeof *kernel);
    VkResult r = kernel ? pipeline_create(gpu, d, &kernel->pipeline) : VK_ERROR_OUT_OF_HOST_MEMORY;
    if (r) {
        struct error error;
        free(kernel);
        gpu_result(&error, r, shader_codes[d->shader].name);
        gpu_fail(gpu, error.code, "%s", error.text);
        return VK_NULL_HANDLE;
    }
    memcpy(kernel->spec, d->spec, sizeof kernel->spec);
    kernel->next = gpu->kernels[d->shader];
    gpu->kernels[d->shader] = kernel;
    return kernel->pipeline;
}

enum shader gpu_variant(enum shader first, const struct quant_format *format)
{
    for (uint32_t i = 0; i < SHADER_WEIGHT_COUNT; i++)
        if (shader_weights[i] == (uint32_t)format->type) return (enum shader)((uint32_t)first + i);
    return SHADER_COUNT;
}
