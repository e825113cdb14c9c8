/* SPDX-License-Identifier: MIT
 *
 * The codebooks of the IQ formats on the device: a table of all (shaders/codebooks.h), the only thing that kernels
 * reach through a descriptor, since their push constants have no room for one more address. It is made with the first
 * weight that asks for it, and bound in every batch from then on.
 */
#include "engine/gpu/gpu.h"
#include "quant/iq_codebook.h"
#include "shaders/codebooks.h"

#include <assert.h>
#include <string.h>

static_assert(CODEBOOK_IQ1 + 2048 == CODEBOOK_CODES, "the last codebook ends the table");

bool gpu_codebook_wanted(const struct quant_format *format)
{
    switch (format->type) {
    case QUANT_IQ1_S:
    case QUANT_IQ1_M:
    case QUANT_IQ2_XXS:
    case QUANT_IQ2_XS:
    case QUANT_IQ2_S:
    case QUANT_IQ3_XXS:
    case QUANT_IQ3_S:
        return true;
    default:
        return false;
    }
}

int gpu_codebook_layout(struct gpu *gpu, struct error *error)
{
    const VkDescriptorSetLayoutBinding binding = {
        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .descriptorCount = 1,
        .stageFlags = VK_SHADER_STAGE_COMPUTE_BIT,
    };
    const VkDescriptorSetLayoutCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO,
        .bindingCount = 1,
        .pBindings = &binding,
    };
    return gpu_result(error, gpu->vk.CreateDescriptorSetLayout(gpu->device, &info, NULL, &gpu->codebook.layout),
                      "preparing kernels");
}

static int table_upload(struct gpu *gpu, struct error *error)
{
    uint16_t table[CODEBOOK_CODES];
    memcpy(table + CODEBOOK_IQ2_XXS, iq2_xxs_codes, sizeof iq2_xxs_codes);
    memcpy(table + CODEBOOK_IQ2_XS, iq2_xs_codes, sizeof iq2_xs_codes);
    memcpy(table + CODEBOOK_IQ2_S, iq2_s_codes, sizeof iq2_s_codes);
    memcpy(table + CODEBOOK_IQ3_XXS, iq3_xxs_codes, sizeof iq3_xxs_codes);
    memcpy(table + CODEBOOK_IQ3_S, iq3_s_codes, sizeof iq3_s_codes);
    memcpy(table + CODEBOOK_IQ1, iq1_s_codes, sizeof iq1_s_codes);
    int rc = gpu->codebook.addr ? 0 : gpu_alloc(gpu, sizeof table, "codebooks", &gpu->codebook.addr, error);
    return rc ? rc : gpu_upload(gpu, gpu->codebook.addr, table, sizeof table, error);
}

static int pool_create_once(struct gpu *gpu, struct error *error)
{
    const VkDescriptorPoolSize size = {VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, 1};
    const VkDescriptorPoolCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO,
        .maxSets = 1,
        .poolSizeCount = 1,
        .pPoolSizes = &size,
    };
    if (gpu->codebook.pool) return 0;
    return gpu_result(error, gpu->vk.CreateDescriptorPool(gpu->device, &info, NULL, &gpu->codebook.pool),
                      "preparing codebooks");
}

static int set_create(struct gpu *gpu, struct error *error)
{
    const VkDescriptorSetAllocateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO,
        .descriptorPool = gpu->codebook.pool,
        .descriptorSetCount = 1,
        .pSetLayouts = &gpu->codebook.layout,
    };
    VkDescriptorBufferInfo buffer = {.range = CODEBOOK_CODES * sizeof(uint16_t)};
    if (!gpu_find(gpu, gpu->codebook.addr, &buffer.buffer, &buffer.offset))
        return error_set(error, ERROR_FAILED, "the codebooks are not in allocated memory");
    VkDescriptorSet set;
    int rc = gpu_result(error, gpu->vk.AllocateDescriptorSets(gpu->device, &info, &set), "preparing codebooks");
    if (rc) return rc;
    const VkWriteDescriptorSet write = {
        .sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET,
        .dstSet = set,
        .descriptorCount = 1,
        .descriptorType = VK_DESCRIPTOR_TYPE_STORAGE_BUFFER,
        .pBufferInfo = &buffer,
    };
    gpu->vk.UpdateDescriptorSets(gpu->device, 1, &write, 0, NULL);
    gpu->codebook.set = set;
    return 0;
}

int gpu_codebook_load(struct gpu *gpu, struct error *error)
{
    if (gpu->codebook.set) return 0;
    int rc = table_upload(gpu, error);
    if (!rc) rc = pool_create_once(gpu, error);
    return rc ? rc : set_create(gpu, error);
}

void gpu_codebook_bind(struct gpu *gpu, VkCommandBuffer commands)
{
    if (!gpu->codebook.set) return;
    gpu->vk.CmdBindDescriptorSets(commands, VK_PIPELINE_BIND_POINT_COMPUTE, gpu->pipeline_layout, 0, 1,
                                  &gpu->codebook.set, 0, NULL);
}

void gpu_codebook_destroy(struct gpu *gpu)
{
    if (gpu->codebook.pool) gpu->vk.DestroyDescriptorPool(gpu->device, gpu->codebook.pool, NULL);
    if (gpu->codebook.layout) gpu->vk.DestroyDescriptorSetLayout(gpu->device, gpu->codebook.layout, NULL);
}
