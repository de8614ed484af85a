/* crun raises RLIMIT_MEMLOCK without bound before it loads a BPF program for devices, and gives up when it may not. Since
 * Linux 5.11 that memory is not counted against the limit, so without CAP_SYS_RESOURCE the answer may as well be yes. */
#define _GNU_SOURCE
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

static int set(int resource, const void *limit)
{
	if (resource == RLIMIT_MEMLOCK)
		return 0;
	return syscall(SYS_prlimit64, 0, resource, limit, NULL);
}

int setrlimit(__rlimit_resource_t resource, const struct rlimit *limit)
{
	return set(resource, limit);
}

int setrlimit64(__rlimit_resource_t resource, const struct rlimit64 *limit)
{
	return set(resource, limit);
}
