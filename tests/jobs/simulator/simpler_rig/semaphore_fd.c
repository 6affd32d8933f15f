/* A Vulkan layer that declares VK_KHR_external_semaphore_fd on devices that lack it.
 *
 * SAPIEN 2.2.2 asks every device for this extension, to share images with CUDA. Mesa's software renderer, lavapipe,
 * has all else that SAPIEN needs. The layer adds the extension to a device's list and takes it out of what
 * vkCreateDevice is asked for. Sharing with CUDA does not work then; rendering and reading back do. */
#include <stdlib.h>
#include <string.h>
#include <vulkan/vk_layer.h>
#include <vulkan/vulkan.h>

static const VkExtensionProperties ADDED = {VK_KHR_EXTERNAL_SEMAPHORE_FD_EXTENSION_NAME, 1};
static PFN_vkGetInstanceProcAddr next_instance;
static PFN_vkGetDeviceProcAddr next_device;
/* Of the newest instance (SAPIEN has one). Asked for while it is made: later the loader answers with ours. */
static PFN_vkEnumerateDeviceExtensionProperties next_list;
static PFN_vkCreateDevice next_create;

/* The loader's link to the next layer, in the chain that a create call is handed; moved on by one. */
static void *advance(const void *chain, VkStructureType type) {
    for (VkLayerInstanceCreateInfo *at = (void *)chain; at; at = (void *)at->pNext)
        if (at->sType == type && at->function == VK_LAYER_LINK_INFO) {
            void *link = at->u.pLayerInfo;
            at->u.pLayerInfo = at->u.pLayerInfo->pNext; /* a device's link begins with pNext too */
            return link;
        }
    return NULL;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_instance(const VkInstanceCreateInfo *info,
                                                      const VkAllocationCallbacks *memory, VkInstance *instance) {
    VkLayerInstanceLink *link = advance(info->pNext, VK_STRUCTURE_TYPE_LOADER_INSTANCE_CREATE_INFO);
    if (!link) return VK_ERROR_INITIALIZATION_FAILED;
    next_instance = link->pfnNextGetInstanceProcAddr;
    VkResult result = ((PFN_vkCreateInstance)next_instance(NULL, "vkCreateInstance"))(info, memory, instance);
    if (result != VK_SUCCESS) return result;
    next_list = (void *)next_instance(*instance, "vkEnumerateDeviceExtensionProperties");
    next_create = (void *)next_instance(*instance, "vkCreateDevice");
    return VK_SUCCESS;
}

static VKAPI_ATTR VkResult VKAPI_CALL list_extensions(VkPhysicalDevice device, const char *layer, uint32_t *count,
                                                      VkExtensionProperties *found) {
    if (layer) return next_list(device, layer, count, found);
    uint32_t own = 0, room = *count;
    VkResult result = next_list(device, NULL, &own, NULL);
    if (result != VK_SUCCESS) return result;
    *count = own + 1;
    if (!found) return VK_SUCCESS;
    if (room <= own) { /* no room for ours */
        *count = room;
        result = next_list(device, NULL, count, found);
        return result == VK_SUCCESS ? VK_INCOMPLETE : result;
    }
    result = next_list(device, NULL, &own, found);
    found[own] = ADDED;
    *count = own + 1;
    return result;
}

static VKAPI_ATTR VkResult VKAPI_CALL create_device(VkPhysicalDevice physical, const VkDeviceCreateInfo *info,
                                                    const VkAllocationCallbacks *memory, VkDevice *device) {
    VkLayerDeviceLink *link = advance(info->pNext, VK_STRUCTURE_TYPE_LOADER_DEVICE_CREATE_INFO);
    if (!link) return VK_ERROR_INITIALIZATION_FAILED;
    next_device = link->pfnNextGetDeviceProcAddr;
    const char **kept = malloc((info->enabledExtensionCount + 1) * sizeof *kept);
    if (!kept) return VK_ERROR_OUT_OF_HOST_MEMORY;
    VkDeviceCreateInfo asked = *info;
    asked.enabledExtensionCount = 0;
    for (uint32_t i = 0; i < info->enabledExtensionCount; i++)
        if (strcmp(info->ppEnabledExtensionNames[i], ADDED.extensionName))
            kept[asked.enabledExtensionCount++] = info->ppEnabledExtensionNames[i];
    asked.ppEnabledExtensionNames = kept;
    VkResult result = next_create(physical, &asked, memory, device);
    free(kept);
    return result;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL device_function(VkDevice device, const char *name) {
    return strcmp(name, "vkGetDeviceProcAddr") ? next_device(device, name) : (PFN_vkVoidFunction)device_function;
}

static VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL instance_function(VkInstance instance, const char *name) {
    const struct {
        const char *name;
        PFN_vkVoidFunction ours;
    } all[] = {{"vkGetInstanceProcAddr", (PFN_vkVoidFunction)instance_function},
               {"vkGetDeviceProcAddr", (PFN_vkVoidFunction)device_function},
               {"vkCreateInstance", (PFN_vkVoidFunction)create_instance},
               {"vkCreateDevice", (PFN_vkVoidFunction)create_device},
               {"vkEnumerateDeviceExtensionProperties", (PFN_vkVoidFunction)list_extensions}};
    for (size_t i = 0; i < sizeof all / sizeof *all; i++)
        if (!strcmp(name, all[i].name)) return all[i].ours;
    return instance && next_instance ? next_instance(instance, name) : NULL;
}

VK_LAYER_EXPORT VKAPI_ATTR VkResult VKAPI_CALL
vkNegotiateLoaderLayerInterfaceVersion(VkNegotiateLayerInterface *asked) {
    asked->loaderLayerInterfaceVersion = 2;
    asked->pfnGetInstanceProcAddr = instance_function;
    asked->pfnGetDeviceProcAddr = device_function;
    asked->pfnGetPhysicalDeviceProcAddr = NULL;
    return VK_SUCCESS;
}
