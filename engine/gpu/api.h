/* SPDX-License-Identifier: MIT
 *
 * The Vulkan functions we call, resolved at run time, so that the program starts on machines without a Vulkan loader.
 * A function is added by adding its name to a list here.
 */
#ifndef LECTERN_ENGINE_GPU_API_H
#define LECTERN_ENGINE_GPU_API_H

#define VK_NO_PROTOTYPES
#include <stdbool.h>
#include <vulkan/vulkan_core.h>

#define GPU_GLOBAL_FUNCTIONS(X)                                                                                        \
    X(CreateInstance)                                                                                                  \
    X(EnumerateInstanceVersion)                                                                                        \
    X(EnumerateInstanceLayerProperties)                                                                                \
    X(EnumerateInstanceExtensionProperties)

#define GPU_INSTANCE_FUNCTIONS(X)                                                                                      \
    X(DestroyInstance)                                                                                                 \
    X(EnumeratePhysicalDevices)                                                                                        \
    X(EnumerateDeviceExtensionProperties)                                                                              \
    X(GetPhysicalDeviceProperties)                                                                                     \
    X(GetPhysicalDeviceProperties2)                                                                                    \
    X(GetPhysicalDeviceFeatures2)                                                                                      \
    X(GetPhysicalDeviceMemoryProperties2)                                                                              \
    X(GetPhysicalDeviceQueueFamilyProperties)                                                                          \
    X(CreateDevice)                                                                                                    \
    X(GetDeviceProcAddr)

#define GPU_DEVICE_FUNCTIONS(X)                                                                                        \
    X(DestroyDevice)                                                                                                   \
    X(GetDeviceQueue)                                                                                                  \
    X(DeviceWaitIdle)                                                                                                  \
    X(AllocateMemory)                                                                                                  \
    X(FreeMemory)                                                                                                      \
    X(MapMemory)                                                                                                       \
    X(CreateBuffer)                                                                                                    \
    X(DestroyBuffer)                                                                                                   \
    X(BindBufferMemory)                                                                                                \
    X(GetBufferMemoryRequirements)                                                                                     \
    X(GetBufferDeviceAddress)                                                                                          \
    X(CreateCommandPool)                                                                                               \
    X(DestroyCommandPool)                                                                                              \
    X(AllocateCommandBuffers)                                                                                          \
    X(BeginCommandBuffer)                                                                                              \
    X(EndCommandBuffer)                                                                                                \
    X(QueueSubmit)                                                                                                     \
    X(CreateSemaphore)                                                                                                 \
    X(DestroySemaphore)                                                                                                \
    X(GetSemaphoreCounterValue)                                                                                        \
    X(WaitSemaphores)                                                                                                  \
    X(CreateShaderModule)                                                                                              \
    X(DestroyShaderModule)                                                                                             \
    X(CreatePipelineCache)                                                                                             \
    X(DestroyPipelineCache)                                                                                            \
    X(GetPipelineCacheData)                                                                                            \
    X(CreatePipelineLayout)                                                                                            \
    X(DestroyPipelineLayout)                                                                                           \
    X(CreateDescriptorSetLayout)                                                                                       \
    X(DestroyDescriptorSetLayout)                                                                                      \
    X(CreateDescriptorPool)                                                                                            \
    X(DestroyDescriptorPool)                                                                                           \
    X(AllocateDescriptorSets)                                                                                          \
    X(UpdateDescriptorSets)                                                                                            \
    X(CreateComputePipelines)                                                                                          \
    X(DestroyPipeline)                                                                                                 \
    X(CreateQueryPool)                                                                                                 \
    X(DestroyQueryPool)                                                                                                \
    X(GetQueryPoolResults)                                                                                             \
    X(CmdResetQueryPool)                                                                                               \
    X(CmdWriteTimestamp)                                                                                               \
    X(CmdBindPipeline)                                                                                                 \
    X(CmdBindDescriptorSets)                                                                                           \
    X(CmdPushConstants)                                                                                                \
    X(CmdDispatch)                                                                                                     \
    X(CmdDispatchIndirect)                                                                                             \
    X(CmdPipelineBarrier)                                                                                              \
    X(CmdUpdateBuffer)                                                                                                 \
    X(CmdCopyBuffer)                                                                                                   \
    X(CmdFillBuffer)

/* Absent (NULL) where their extension is. */
#define GPU_OPTIONAL_FUNCTIONS(X)                                                                                      \
    X(CreateDebugUtilsMessengerEXT)                                                                                    \
    X(DestroyDebugUtilsMessengerEXT)                                                                                   \
    X(SetDebugUtilsObjectNameEXT)

struct gpu_api {
    PFN_vkGetInstanceProcAddr GetInstanceProcAddr;
#define GPU_MEMBER(name) PFN_vk##name name;
    GPU_GLOBAL_FUNCTIONS(GPU_MEMBER)
    GPU_INSTANCE_FUNCTIONS(GPU_MEMBER)
    GPU_DEVICE_FUNCTIONS(GPU_MEMBER)
    GPU_OPTIONAL_FUNCTIONS(GPU_MEMBER)
#undef GPU_MEMBER
};

/* Each fills its functions; false when the loader, or a function of the list, is not there. The loader stays loaded
 * for the life of the process: drivers do not like to be unloaded. */
bool gpu_api_load(struct gpu_api *);
bool gpu_api_load_instance(struct gpu_api *, VkInstance);
bool gpu_api_load_device(struct gpu_api *, VkDevice);

#endif
