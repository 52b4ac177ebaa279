// A static link needs these: libhwloc.a names block devices through libudev, of which Debian ships
// no archive. Nothing here looks at devices, and hwloc reads a null context as "without udev".

extern "C" {

void* udev_new() {
  return nullptr;
}

void* udev_unref(void*) {
  return nullptr;
}

void* udev_device_new_from_subsystem_sysname(void*, const char*, const char*) {
  return nullptr;
}

const char* udev_device_get_property_value(void*, const char*) {
  return nullptr;
}

void* udev_device_unref(void*) {
  return nullptr;
}

}  // extern "C"
