/* SPDX-License-Identifier: MIT
 *
 * Instance, physical devices with what they can do, and the logical device.
 */
#include "engine/gpu/gpu.h"

#include <stdlib.h>
#include <string.h>

/* Younger than Vulkan headers in use: from the extension's specification. */
#ifndef VK_KHR_cooperative_matrix
#define VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME "VK_KHR_cooperative_matrix"
#define VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR ((VkStructureType)1000506000)
#define VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR ((VkStructureType)1000506001)
typedef struct VkPhysicalDeviceCooperativeMatrixFeaturesKHR {
    VkStructureType sType;
    void *pNext;
    VkBool32 cooperativeMatrix;
    VkBool32 cooperativeMatrixRobustBufferAccess;
} VkPhysicalDeviceCooperativeMatrixFeaturesKHR;
typedef struct VkCooperativeMatrixPropertiesKHR {
    VkStructureType sType;
    void *pNext;
    uint32_t MSize, NSize, KSize;
    int AType, BType, CType, ResultType; /* VkComponentTypeKHR: 0 = f16, 1 = f32 */
    VkBool32 saturatingAccumulation;
    int scope; /* 3 = subgroup */
} VkCooperativeMatrixPropertiesKHR;
typedef VkResult(VKAPI_PTR *PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(VkPhysicalDevice, uint32_t *,
                                                                                   VkCooperativeMatrixPropertiesKHR *);
#endif
enum { COMPONENT_F16 = 0, COMPONENT_F32 = 1, SCOPE_SUBGROUP = 3, COOPMAT_SIDE = 16 };

/* A validation layer older than this takes the extension's structures for mistakes. */
#define COOPMAT_SINCE VK_MAKE_API_VERSION(0, 1, 3, 255)

#define VALIDATION_LAYER "VK_LAYER_KHRONOS_validation"

/* All features we may ask for, chained. */
struct features {
    VkPhysicalDeviceFeatures2 core;
    VkPhysicalDeviceVulkan11Features v11;
    VkPhysicalDeviceVulkan12Features v12;
    VkPhysicalDeviceSubgroupSizeControlFeatures subgroup;
    VkPhysicalDeviceCooperativeMatrixFeaturesKHR coopmat;
};

struct extensions {
    bool subgroup_control, coopmat, budget;
};

int gpu_result(struct error *error, VkResult result, const char *what)
{
    switch (result) {
    case VK_SUCCESS:
        return 0;
    case VK_ERROR_DEVICE_LOST:
        return error_set(error, ERROR_FAILED,
                         "the graphics device was lost while it worked (it was reset or hung); start again");
    case VK_ERROR_OUT_OF_DEVICE_MEMORY:
        return error_set(error, ERROR_FIT, "the graphics device is out of memory (%s)", what);
    case VK_ERROR_OUT_OF_HOST_MEMORY:
        return error_set(error, ERROR_FAILED, "out of memory (%s)", what);
    default:
        return error_set(error, ERROR_FAILED, "Vulkan: %s failed with code %d", what, (int)result);
    }
}

/* ---------------------------------------------------------------------------------------------------- instance */

static VKAPI_ATTR VkBool32 VKAPI_CALL message_arrived(VkDebugUtilsMessageSeverityFlagBitsEXT severity,
                                                      VkDebugUtilsMessageTypeFlagsEXT types,
                                                      const VkDebugUtilsMessengerCallbackDataEXT *data, void *user)
{
    struct gpu *gpu = user;
    (void)severity;
    (void)types;
    if (gpu->messages++ == 0) snprintf(gpu->message, sizeof gpu->message, "%s", data->pMessage);
    return VK_FALSE;
}

/* The version of an installed layer, which is that of the headers it knows; 0 = not installed. */
static uint32_t layer_version(const struct gpu_api *vk, const char *name)
{
    VkLayerProperties list[64];
    uint32_t count = 64;
    if (vk->EnumerateInstanceLayerProperties(&count, list) < 0) return 0;
    for (uint32_t i = 0; i < count; i++)
        if (!strcmp(list[i].layerName, name)) return list[i].specVersion;
    return 0;
}

static VkDebugUtilsMessengerCreateInfoEXT messenger_info(struct gpu *gpu)
{
    return (VkDebugUtilsMessengerCreateInfoEXT){
        .sType = VK_STRUCTURE_TYPE_DEBUG_UTILS_MESSENGER_CREATE_INFO_EXT,
        .messageSeverity =
            VK_DEBUG_UTILS_MESSAGE_SEVERITY_WARNING_BIT_EXT | VK_DEBUG_UTILS_MESSAGE_SEVERITY_ERROR_BIT_EXT,
        .messageType = VK_DEBUG_UTILS_MESSAGE_TYPE_VALIDATION_BIT_EXT,
        .pfnUserCallback = message_arrived,
        .pUserData = gpu,
    };
}

int gpu_instance_create(struct gpu *gpu, bool validate, struct error *error)
{
    uint32_t version = 0;
    if (!gpu_api_load(&gpu->vk)) return error_set(error, ERROR_FIT, "no Vulkan loader (libvulkan.so.1) is installed");
    if (gpu->vk.EnumerateInstanceVersion(&version) || version < VK_API_VERSION_1_2)
        return error_set(error, ERROR_FIT, "the installed Vulkan loader is older than version 1.2");
    if (validate) gpu->layer_version = layer_version(&gpu->vk, VALIDATION_LAYER);
    if (validate && !gpu->layer_version)
        return error_set(error, ERROR_USAGE, "the Vulkan validation layer is not installed");

    VkDebugUtilsMessengerCreateInfoEXT messenger = messenger_info(gpu);
    const VkValidationFeatureEnableEXT enable[] = {VK_VALIDATION_FEATURE_ENABLE_SYNCHRONIZATION_VALIDATION_EXT};
    const VkValidationFeaturesEXT checks = {
        .sType = VK_STRUCTURE_TYPE_VALIDATION_FEATURES_EXT,
        .pNext = &messenger,
        .enabledValidationFeatureCount = 1,
        .pEnabledValidationFeatures = enable,
    };
    const VkApplicationInfo app = {
        .sType = VK_STRUCTURE_TYPE_APPLICATION_INFO,
        .pApplicationName = "lectern",
        .apiVersion = VK_API_VERSION_1_2,
    };
    const char *layers[] = {VALIDATION_LAYER};
    const char *extensions[] = {VK_EXT_DEBUG_UTILS_EXTENSION_NAME, VK_EXT_VALIDATION_FEATURES_EXTENSION_NAME};
    const VkInstanceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO,
        .pNext = validate ? &checks : NULL,
        .pApplicationInfo = &app,
        .enabledLayerCount = validate ? 1 : 0,
        .ppEnabledLayerNames = layers,
        .enabledExtensionCount = validate ? 2 : 0,
        .ppEnabledExtensionNames = extensions,
    };
    VkResult r = gpu->vk.CreateInstance(&info, NULL, &gpu->instance);
    if (r == VK_ERROR_INCOMPATIBLE_DRIVER) return error_set(error, ERROR_FIT, "no Vulkan driver is installed");
    if (r) return gpu_result(error, r, "creating the instance");
    if (!gpu_api_load_instance(&gpu->vk, gpu->instance))
        return error_set(error, ERROR_FAILED, "the Vulkan loader lacks functions of version 1.2");
    if (!validate) return 0;
    messenger.pNext = NULL;
    r = gpu->vk.CreateDebugUtilsMessengerEXT(gpu->instance, &messenger, NULL, &gpu->messenger);
    return gpu_result(error, r, "listening to the validation layers");
}

int gpu_physical_list(struct gpu *gpu, VkPhysicalDevice **list, uint32_t *count, struct error *error)
{
    *list = NULL;
    *count = 0;
    VkResult r = gpu->vk.EnumeratePhysicalDevices(gpu->instance, count, NULL);
    if (r) return gpu_result(error, r, "listing devices");
    if (!*count) return 0;
    *list = calloc(*count, sizeof **list);
    if (!*list) return error_set(error, ERROR_FAILED, "out of memory");
    r = gpu->vk.EnumeratePhysicalDevices(gpu->instance, count, *list);
    if (r >= 0) return 0;
    free(*list);
    *list = NULL;
    return gpu_result(error, r, "listing devices");
}

/* ------------------------------------------------------------------------------------------------ capabilities */

static struct extensions extensions_query(const struct gpu_api *vk, VkPhysicalDevice physical)
{
    struct extensions found = {0};
    uint32_t count = 0;
    vk->EnumerateDeviceExtensionProperties(physical, NULL, &count, NULL);
    VkExtensionProperties *list = calloc(count ? count : 1, sizeof *list);
    if (!list || vk->EnumerateDeviceExtensionProperties(physical, NULL, &count, list)) count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const char *name = list[i].extensionName;
        found.subgroup_control |= !strcmp(name, VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME);
        found.coopmat |= !strcmp(name, VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME);
        found.budget |= !strcmp(name, VK_EXT_MEMORY_BUDGET_EXTENSION_NAME);
    }
    free(list);
    return found;
}

/* Links the structs; those of absent extensions stay out. */
static void features_chain(struct features *f, const struct extensions *ext)
{
    *f = (struct features){
        .core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_FEATURES_2,
        .v11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_FEATURES,
        .v12.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_2_FEATURES,
        .subgroup.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_FEATURES,
        .coopmat.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_COOPERATIVE_MATRIX_FEATURES_KHR,
    };
    f->core.pNext = &f->v11;
    f->v11.pNext = &f->v12;
    void **tail = &f->v12.pNext;
    if (ext->subgroup_control) {
        *tail = &f->subgroup;
        tail = &f->subgroup.pNext;
    }
    if (ext->coopmat) *tail = &f->coopmat;
}

static const char *features_missing(const struct features *f, uint32_t version, VkSubgroupFeatureFlags subgroup_ops)
{
    const VkSubgroupFeatureFlags needed = VK_SUBGROUP_FEATURE_BASIC_BIT | VK_SUBGROUP_FEATURE_ARITHMETIC_BIT |
                                          VK_SUBGROUP_FEATURE_BALLOT_BIT | VK_SUBGROUP_FEATURE_SHUFFLE_BIT;
    if (version < VK_API_VERSION_1_2) return "Vulkan 1.2";
    if (!f->v12.bufferDeviceAddress) return "bufferDeviceAddress";
    if (!f->v12.timelineSemaphore) return "timelineSemaphore";
    if (!f->v12.scalarBlockLayout) return "scalarBlockLayout";
    if (!f->v12.storageBuffer8BitAccess || !f->v12.shaderInt8) return "8-bit storage";
    if (!f->v11.storageBuffer16BitAccess || !f->core.features.shaderInt16) return "16-bit storage";
    if (!f->core.features.shaderInt64) return "shaderInt64";
    if ((subgroup_ops & needed) != needed) return "subgroup arithmetic, ballot and shuffle";
    return NULL;
}

static bool coopmat_usable(const struct gpu *gpu, VkPhysicalDevice physical)
{
    PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR query =
        (PFN_vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR)(void (*)(void))gpu->vk.GetInstanceProcAddr(
            gpu->instance, "vkGetPhysicalDeviceCooperativeMatrixPropertiesKHR");
    VkCooperativeMatrixPropertiesKHR list[64];
    memset(list, 0, sizeof list);
    uint32_t count = 64;
    for (uint32_t i = 0; i < count; i++) list[i].sType = VK_STRUCTURE_TYPE_COOPERATIVE_MATRIX_PROPERTIES_KHR;
    if (!query || query(physical, &count, list) < 0) return false;
    for (uint32_t i = 0; i < count; i++) {
        const VkCooperativeMatrixPropertiesKHR *p = &list[i];
        bool side = p->MSize == COOPMAT_SIDE && p->NSize == COOPMAT_SIDE && p->KSize == COOPMAT_SIDE;
        bool in = p->AType == COMPONENT_F16 && p->BType == COMPONENT_F16;
        bool out = p->CType == COMPONENT_F32 && p->ResultType == COMPONENT_F32;
        if (side && in && out && p->scope == SCOPE_SUBGROUP) return true;
    }
    return false;
}

/* Bytes of device-local memory, and of it free. */
static void memory_query(const struct gpu_api *vk, VkPhysicalDevice physical, struct gpu_caps *caps)
{
    VkPhysicalDeviceMemoryBudgetPropertiesEXT budget = {
        .sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_BUDGET_PROPERTIES_EXT};
    VkPhysicalDeviceMemoryProperties2 p = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2,
                                           .pNext = caps->budget ? &budget : NULL};
    vk->GetPhysicalDeviceMemoryProperties2(physical, &p);
    for (uint32_t i = 0; i < p.memoryProperties.memoryHeapCount; i++) {
        if (!(p.memoryProperties.memoryHeaps[i].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)) continue;
        uint64_t size = p.memoryProperties.memoryHeaps[i].size, used = budget.heapUsage[i];
        uint64_t allowed = caps->budget ? budget.heapBudget[i] : size;
        caps->memory += size;
        caps->memory_free += allowed > used ? allowed - used : 0;
    }
}

struct properties {
    VkPhysicalDeviceProperties2 core;
    VkPhysicalDeviceVulkan11Properties v11;
    VkPhysicalDeviceSubgroupSizeControlProperties subgroup;
};

static void properties_query(const struct gpu_api *vk, VkPhysicalDevice physical, const struct extensions *ext,
                             struct properties *p)
{
    *p = (struct properties){
        .core.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2,
        .v11.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_VULKAN_1_1_PROPERTIES,
        .subgroup.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_SIZE_CONTROL_PROPERTIES,
    };
    p->core.pNext = &p->v11;
    if (ext->subgroup_control) p->v11.pNext = &p->subgroup;
    vk->GetPhysicalDeviceProperties2(physical, &p->core);
}

void gpu_caps_query(const struct gpu *gpu, VkPhysicalDevice physical, struct gpu_caps *caps)
{
    const struct gpu_api *vk = &gpu->vk;
    *caps = (struct gpu_caps){.missing = "Vulkan 1.2"};
    VkPhysicalDeviceProperties basic;
    vk->GetPhysicalDeviceProperties(physical, &basic);
    snprintf(caps->name, sizeof caps->name, "%.127s", basic.deviceName);
    caps->is_software = basic.deviceType == VK_PHYSICAL_DEVICE_TYPE_CPU;
    caps->is_unified = caps->is_software || basic.deviceType == VK_PHYSICAL_DEVICE_TYPE_INTEGRATED_GPU;
    if (basic.apiVersion < VK_API_VERSION_1_2) return;

    struct extensions ext = extensions_query(vk, physical);
    if (gpu->layer_version && gpu->layer_version < COOPMAT_SINCE) ext.coopmat = false;
    struct features f;
    struct properties p;
    features_chain(&f, &ext);
    vk->GetPhysicalDeviceFeatures2(physical, &f.core);
    properties_query(vk, physical, &ext, &p);
    const VkPhysicalDeviceLimits *limits = &p.core.properties.limits;
    caps->missing = features_missing(&f, basic.apiVersion, p.v11.subgroupSupportedOperations);
    caps->subgroup = p.v11.subgroupSize;
    caps->subgroup_control = ext.subgroup_control && f.subgroup.subgroupSizeControl &&
                             (p.subgroup.requiredSubgroupSizeStages & VK_SHADER_STAGE_COMPUTE_BIT);
    caps->shared_bytes = limits->maxComputeSharedMemorySize;
    caps->group_max = limits->maxComputeWorkGroupInvocations;
    caps->alloc_max = p.v11.maxMemoryAllocationSize;
    caps->tick_ns = limits->timestampComputeAndGraphics ? (double)limits->timestampPeriod : 0;
    caps->f16 = f.v12.shaderFloat16;
    caps->budget = ext.budget;
    /* A build without the newer glslc has no kernels for them; theirs are of 256 invocations. */
    caps->coopmat = shader_codes[SHADER_MATMUL_COOP_F32].words && ext.coopmat && f.coopmat.cooperativeMatrix &&
                    f.v12.vulkanMemoryModel && caps->f16 && caps->group_max >= 256 && coopmat_usable(gpu, physical);
    memory_query(vk, physical, caps);
}

void gpu_caps_describe(const struct gpu_caps *caps, char *out, size_t size)
{
    if (caps->missing) {
        snprintf(out, size, "not usable: it lacks %s", caps->missing);
        return;
    }
    snprintf(out, size, "subgroup %u, %u KiB shared%s%s%s", caps->subgroup, caps->shared_bytes / 1024,
             caps->f16 ? ", f16" : "", caps->coopmat ? ", cooperative matrices" : "",
             caps->is_software ? ", software" : "");
}

/* ---------------------------------------------------------------------------------------------- logical device */

static int queue_family_find(struct gpu *gpu, struct error *error)
{
    VkQueueFamilyProperties list[32];
    uint32_t count = 32;
    gpu->vk.GetPhysicalDeviceQueueFamilyProperties(gpu->physical, &count, list);
    for (uint32_t i = 0; i < count; i++) {
        if (!(list[i].queueFlags & VK_QUEUE_COMPUTE_BIT)) continue;
        gpu->queue_family = i;
        if (!list[i].timestampValidBits) gpu->caps.tick_ns = 0;
        return 0;
    }
    return error_set(error, ERROR_FIT, "%s has no compute queue", gpu->caps.name);
}

/* Only what the kernels use. */
static void features_choose(struct features *f, const struct gpu_caps *caps)
{
    struct extensions used = {.subgroup_control = caps->subgroup_control, .coopmat = caps->coopmat};
    features_chain(f, &used);
    f->core.features.shaderInt64 = f->core.features.shaderInt16 = VK_TRUE;
    f->v11.storageBuffer16BitAccess = VK_TRUE;
    f->v12.bufferDeviceAddress = f->v12.timelineSemaphore = f->v12.scalarBlockLayout = VK_TRUE;
    f->v12.storageBuffer8BitAccess = f->v12.shaderInt8 = VK_TRUE;
    f->v12.shaderFloat16 = caps->f16;
    f->v12.vulkanMemoryModel = caps->coopmat;
    f->subgroup.subgroupSizeControl = caps->subgroup_control;
    f->coopmat.cooperativeMatrix = caps->coopmat;
}

int gpu_device_create(struct gpu *gpu, struct error *error)
{
    const struct gpu_caps *caps = &gpu->caps;
    const char *extensions[4];
    uint32_t n_extensions = 0;
    struct features features;
    int rc = queue_family_find(gpu, error);
    if (rc) return rc;
    features_choose(&features, caps);
    if (caps->subgroup_control) extensions[n_extensions++] = VK_EXT_SUBGROUP_SIZE_CONTROL_EXTENSION_NAME;
    if (caps->coopmat) extensions[n_extensions++] = VK_KHR_COOPERATIVE_MATRIX_EXTENSION_NAME;
    if (caps->budget) extensions[n_extensions++] = VK_EXT_MEMORY_BUDGET_EXTENSION_NAME;
    const float priority = 1;
    const VkDeviceQueueCreateInfo queue = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO,
        .queueFamilyIndex = gpu->queue_family,
        .queueCount = 1,
        .pQueuePriorities = &priority,
    };
    const VkDeviceCreateInfo info = {
        .sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO,
        .pNext = &features.core,
        .queueCreateInfoCount = 1,
        .pQueueCreateInfos = &queue,
        .enabledExtensionCount = n_extensions,
        .ppEnabledExtensionNames = extensions,
    };
    VkResult r = gpu->vk.CreateDevice(gpu->physical, &info, NULL, &gpu->device);
    if (r) return gpu_result(error, r, "opening the device");
    if (!gpu_api_load_device(&gpu->vk, gpu->device))
        return error_set(error, ERROR_FAILED, "the Vulkan driver lacks functions of version 1.2");
    gpu->vk.GetDeviceQueue(gpu->device, gpu->queue_family, 0, &gpu->queue);
    VkPhysicalDeviceMemoryProperties2 memory = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MEMORY_PROPERTIES_2};
    gpu->vk.GetPhysicalDeviceMemoryProperties2(gpu->physical, &memory);
    gpu->memory_types = memory.memoryProperties;
    return 0;
}

void gpu_device_destroy(struct gpu *gpu)
{
    if (gpu->device && gpu->vk.DestroyDevice) gpu->vk.DestroyDevice(gpu->device, NULL);
    if (gpu->messenger) gpu->vk.DestroyDebugUtilsMessengerEXT(gpu->instance, gpu->messenger, NULL);
    if (gpu->instance && gpu->vk.DestroyInstance) gpu->vk.DestroyInstance(gpu->instance, NULL);
}
