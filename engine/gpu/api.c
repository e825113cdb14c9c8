/* SPDX-License-Identifier: MIT
 *
 * Finds the Vulkan loader and our functions in it.
 */
#include "engine/gpu/api.h"

#include <dlfcn.h>
#include <string.h>

bool gpu_api_load(struct gpu_api *api)
{
    void *loader = dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
    if (!loader) return false;
    void *symbol = dlsym(loader, "vkGetInstanceProcAddr");
    if (!symbol) return false;
    /* ISO C has no cast from object to function pointer; POSIX promises that their bytes agree. */
    memcpy(&api->GetInstanceProcAddr, &symbol, sizeof symbol);
#define GPU_LOAD(name)                                                                                                 \
    api->name = (PFN_vk##name)(void (*)(void))api->GetInstanceProcAddr(NULL, "vk" #name);                              \
    if (!api->name) return false;
    GPU_GLOBAL_FUNCTIONS(GPU_LOAD)
#undef GPU_LOAD
    return true;
}

bool gpu_api_load_instance(struct gpu_api *api, VkInstance instance)
{
#define GPU_LOAD(name)                                                                                                 \
    api->name = (PFN_vk##name)(void (*)(void))api->GetInstanceProcAddr(instance, "vk" #name);                          \
    if (!api->name) return false;
    GPU_INSTANCE_FUNCTIONS(GPU_LOAD)
#undef GPU_LOAD
#define GPU_LOAD(name) api->name = (PFN_vk##name)(void (*)(void))api->GetInstanceProcAddr(instance, "vk" #name);
    GPU_OPTIONAL_FUNCTIONS(GPU_LOAD)
#undef GPU_LOAD
    return true;
}

bool gpu_api_load_device(struct gpu_api *api, VkDevice device)
{
#define GPU_LOAD(name)                                                                                                 \
    api->name = (PFN_vk##name)(void (*)(void))api->GetDeviceProcAddr(device, "vk" #name);                              \
    if (!api->name) return false;
    GPU_DEVICE_FUNCTIONS(GPU_LOAD)
#undef GPU_LOAD
    return true;
}
