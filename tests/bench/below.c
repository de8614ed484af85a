/* What `cargo xtask bench below` attaches or loads that the recorder does not have. Each is ended by the end of its standard input.
 *
 * below storage: on sys_enter a program that finds the slot of a task in the task's own storage and notes the call. Each
 * line of input is a process that gets slot 1; it is answered by a line.
 * below loads OFFSET OFFSET OFFSET OFFSET: the same, but by the id of the task's cgroup and a table, as the recorder does; the
 * offsets are task_struct.cgroups, css_set.dfl_cgrp, cgroup.kn and kernfs_node.id, each line of input is an id.
 * below tracepoints all|CALL|-CALL: an empty program on the classic sys_enter tracepoint of all calls, one, or all but one.
 * Says how many, how many milliseconds that took and by how many KiB the kernel's memory grew; at the end, how many
 * milliseconds detaching took.
 * below filter FILE PROGRAM...: executes the program under the filter in FILE.
 * below notify FILE PROGRAM...: the same; answers what the filter asks of its listener with CONTINUE, and says on
 * stderr how many different calls of `below flood` these were.
 * below flood N: N different calls that no kernel has, and how many nanoseconds each took.
 * below orphan: kills the process that listens, and says what a call then gives.
 * below listen: at the end says how many of these different calls the kernel's log, and audit's readers, were told.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/bpf.h>
#include <linux/filter.h>
#include <linux/netlink.h>
#include <linux/perf_event.h>
#include <linux/seccomp.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define FIRST 1000 /* the first number of `below flood` */
#define MOST 50000
#define CALLS 512 /* of a slot; a power of two */
#define BUCKETS 1024

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1e3 + t.tv_nsec / 1e6;
}

/* ---- programs ---- */

#define INSN(c, d, s, o, i) ((struct bpf_insn){ .code = (c), .dst_reg = (d), .src_reg = (s), .off = (o), .imm = (i) })
#define MOVE(d, s) INSN(BPF_ALU64 | BPF_MOV | BPF_X, d, s, 0, 0)
#define SET(d, i) INSN(BPF_ALU64 | BPF_MOV | BPF_K, d, 0, 0, i)
#define ALU(op, d, i) INSN(BPF_ALU64 | (op) | BPF_K, d, 0, 0, i)
#define ALU_REG(op, d, s) INSN(BPF_ALU64 | (op) | BPF_X, d, s, 0, 0)
#define LOAD(d, s, o) INSN(BPF_LDX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE(d, o, s) INSN(BPF_STX | BPF_MEM | BPF_DW, d, s, o, 0)
#define STORE32(d, o, s) INSN(BPF_STX | BPF_MEM | BPF_W, d, s, o, 0)
#define MAP(d, fd) INSN(BPF_LD | BPF_DW | BPF_IMM, d, BPF_PSEUDO_MAP_FD, 0, fd), INSN(0, 0, 0, 0, 0)
#define CALL(f) INSN(BPF_JMP | BPF_CALL, 0, 0, 0, f)
#define EXIT INSN(BPF_JMP | BPF_EXIT, 0, 0, 0, 0)
/* these jump to the end, which is found when the program is whole */
#define LEAVE 0x7fff
#define LEAVE_IF(op, d, i) INSN(BPF_JMP | (op) | BPF_K, d, 0, LEAVE, i)
#define LEAVE_IF_REG(op, d, s) INSN(BPF_JMP | (op) | BPF_X, d, s, LEAVE, 0)

static int bpf(int what, union bpf_attr *attr)
{
	return syscall(SYS_bpf, what, attr, sizeof *attr);
}

static int load(int type, struct bpf_insn *code, unsigned len)
{
	static char log[1 << 16];
	union bpf_attr attr = { .prog_type = type, .insns = (uintptr_t)code, .insn_cnt = len,
				.license = (uintptr_t)"Dual MIT/GPL", .log_buf = (uintptr_t)log, .log_size = sizeof log, .log_level = 1 };
	int fd;

	for (unsigned at = 0; at < len; at++)
		if (code[at].off == LEAVE)
			code[at].off = len - 2 - (at + 1);
	fd = bpf(BPF_PROG_LOAD, &attr);
	if (fd < 0) {
		fprintf(stderr, "%s\n", log);
		fail("the kernel takes no such program");
	}
	return fd;
}

static void attach(struct bpf_insn *code, unsigned len)
{
	union bpf_attr attr = { .raw_tracepoint = { .name = (uintptr_t)"sys_enter",
						    .prog_fd = load(BPF_PROG_TYPE_RAW_TRACEPOINT, code, len) } };

	if (bpf(BPF_RAW_TRACEPOINT_OPEN, &attr) < 0)
		fail("sys_enter");
}

static int array(unsigned entries)
{
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_ARRAY, .key_size = 4, .value_size = 8, .max_entries = entries };
	int fd = bpf(BPF_MAP_CREATE, &attr);

	if (fd < 0)
		fail("an array");
	return fd;
}

static void update(int map, const void *key, uint64_t value)
{
	union bpf_attr attr = { .map_fd = map, .key = (uintptr_t)key, .value = (uintptr_t)&value };

	if (bpf(BPF_MAP_UPDATE_ELEM, &attr))
		fail("cannot write to the map");
}

/* Its keys and values must have types: int and a word of 64 bits. */
static int storage(void)
{
	struct {
		struct btf_header { uint16_t magic; uint8_t version, flags; uint32_t hdr, type_off, type_len, str_off, str_len; } header;
		uint32_t types[8];
		char strings[16];
	} btf = { { 0xeb9f, 1, 0, 24, 0, 32, 32, 16 }, { 1, 1 << 24, 4, 1 << 24 | 32, 5, 1 << 24, 8, 64 }, "\0int\0word" };
	union bpf_attr types = { .btf = (uintptr_t)&btf, .btf_size = sizeof btf };
	int btf_fd = bpf(BPF_BTF_LOAD, &types);
	union bpf_attr attr = { .map_type = BPF_MAP_TYPE_TASK_STORAGE, .key_size = 4, .value_size = 8, .map_flags = BPF_F_NO_PREALLOC,
				.btf_fd = btf_fd, .btf_key_type_id = 1, .btf_value_type_id = 2 };
	int fd;

	if (btf_fd < 0)
		fail("the kernel takes no types");
	fd = bpf(BPF_MAP_CREATE, &attr);
	if (fd < 0)
		fail("the kernel has no task storage");
	return fd;
}

/* The context is in r6, the slot in r7: the call's word is written once. */
#define NOTE(calls)                                                                                                               \
	LOAD(1, 6, 8), LEAVE_IF(BPF_JGE, 1, CALLS), ALU(BPF_LSH, 7, 9), ALU_REG(BPF_OR, 7, 1), STORE32(10, -4, 7), MOVE(2, 10),   \
		ALU(BPF_ADD, 2, -4), MAP(1, calls), CALL(BPF_FUNC_map_lookup_elem), LEAVE_IF(BPF_JEQ, 0, 0), LOAD(1, 0, 0),       \
		LEAVE_IF(BPF_JNE, 1, 0), SET(1, 1), STORE(0, 0, 1), SET(0, 0), EXIT

static void by_storage(void)
{
	int slots = storage(), calls = array(8 * CALLS), pid;
	struct bpf_insn code[] = {
		MOVE(6, 1), CALL(BPF_FUNC_get_current_task_btf), MAP(1, slots), MOVE(2, 0), SET(3, 0), SET(4, 0),
		CALL(BPF_FUNC_task_storage_get), LEAVE_IF(BPF_JEQ, 0, 0), LOAD(7, 0, 0), ALU(BPF_AND, 7, 7), NOTE(calls),
	};

	attach(code, sizeof code / sizeof *code);
	puts("ready");
	while (scanf("%d", &pid) == 1) {
		int fd = syscall(SYS_pidfd_open, pid, 0);

		if (fd < 0)
			fail("pidfd_open");
		update(slots, &fd, 1);
		close(fd);
		puts("ok");
	}
}

static void by_loads(char **offsets)
{
	int buckets = array(BUCKETS), calls = array(8 * CALLS);
	unsigned long long id;
	struct bpf_insn code[] = {
		MOVE(6, 1), CALL(BPF_FUNC_get_current_task_btf), LOAD(1, 0, atoi(offsets[0])), LOAD(1, 1, atoi(offsets[1])),
		LOAD(1, 1, atoi(offsets[2])), LOAD(8, 1, atoi(offsets[3])), MOVE(1, 8), ALU(BPF_AND, 1, BUCKETS - 1),
		STORE32(10, -4, 1), MOVE(2, 10), ALU(BPF_ADD, 2, -4), MAP(1, buckets), CALL(BPF_FUNC_map_lookup_elem),
		LEAVE_IF(BPF_JEQ, 0, 0), LOAD(7, 0, 0), MOVE(1, 7), ALU(BPF_RSH, 1, 32), ALU(BPF_LSH, 8, 32), ALU(BPF_RSH, 8, 32),
		LEAVE_IF_REG(BPF_JNE, 1, 8), ALU(BPF_AND, 7, 7), NOTE(calls),
	};

	attach(code, sizeof code / sizeof *code);
	puts("ready");
	while (scanf("%llu", &id) == 1) {
		uint32_t bucket = id % BUCKETS;

		update(buckets, &bucket, id << 32 | 1);
		puts("ok");
	}
}

/* ---- tracepoints ---- */

#define EVENTS "/sys/kernel/tracing/events/syscalls"
#define PREFIX "sys_enter_"

/* Fields of /proc/meminfo that the kernel's own data is counted in. */
static long kernel_kib(void)
{
	FILE *file = fopen("/proc/meminfo", "r");
	char name[64];
	long value, sum = 0;

	if (!file)
		fail("/proc/meminfo");
	while (fscanf(file, "%63s %ld%*[^\n]", name, &value) == 2)
		if (!strcmp(name, "SUnreclaim:") || !strcmp(name, "Percpu:"))
			sum += value;
	fclose(file);
	return sum;
}

static int attached_to(const char *event, int program)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_TRACEPOINT, .size = sizeof attr, .sample_period = 1 };
	char path[512];
	FILE *file;
	int fd;

	snprintf(path, sizeof path, EVENTS "/%s/id", event);
	file = fopen(path, "r");
	if (!file || fscanf(file, "%llu", (unsigned long long *)&attr.config) != 1)
		fail(path);
	fclose(file);
	fd = syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	if (fd < 0 || ioctl(fd, PERF_EVENT_IOC_SET_BPF, program) || ioctl(fd, PERF_EVENT_IOC_ENABLE, 0))
		fail(event);
	return fd;
}

static void tracepoints(const char *which)
{
	struct bpf_insn code[] = { SET(0, 0), EXIT };
	int program = load(BPF_PROG_TYPE_TRACEPOINT, code, 2), but = which[0] == '-', all = but || !strcmp(which, "all"), count = 0;
	static char names[1024][256];
	static int fds[1024];
	struct dirent *entry;
	int wanted = 0;
	double began;
	long kib;
	DIR *dir;

	if (unshare(CLONE_NEWNS) || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) ||
	    mount("none", "/sys/kernel/tracing", "tracefs", 0, NULL))
		fail("tracefs");
	dir = opendir(EVENTS);
	if (!dir)
		fail(EVENTS);
	while ((entry = readdir(dir)) && wanted < 1024) {
		const char *call = entry->d_name + strlen(PREFIX);

		if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) || (!all && strcmp(call, which)) || (but && !strcmp(call, which + 1)))
			continue;
		snprintf(names[wanted++], sizeof *names, "%s", entry->d_name);
	}
	closedir(dir);
	kib = kernel_kib();
	began = now();
	for (; count < wanted; count++)
		fds[count] = attached_to(names[count], program);
	printf("ready %d %f %ld\n", count, now() - began, kernel_kib() - kib);
	while (getchar() != EOF)
		;
	began = now();
	while (count)
		close(fds[--count]);
	printf("%f\n", now() - began);
}

/* ---- filters ---- */

static struct sock_fprog program_of(const char *path)
{
	static struct sock_filter code[BPF_MAXINSNS];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t len = fd < 0 ? -1 : read(fd, code, sizeof code);

	if (len <= 0)
		fail(path);
	close(fd);
	return (struct sock_fprog){ len / sizeof *code, code };
}

static void execute(char **program)
{
	execvp(program[0], program);
	fail(program[0]);
}

/* Which numbers of `below flood` came by a way. */
typedef unsigned char set_t[MOST];

static int distinct(const set_t set)
{
	int count = 0;

	for (int at = 0; at < MOST; at++)
		count += set[at];
	return count;
}

static void note(set_t set, long nr)
{
	if (nr >= FIRST && nr < FIRST + MOST)
		set[nr - FIRST] = 1;
}

static set_t asked_of;
static pid_t child;

static void ended(int signal)
{
	int status = 1;

	(void)signal;
	if (waitpid(child, &status, WNOHANG) != child)
		return;
	dprintf(2, "%d\n", distinct(asked_of));
	_exit(WIFEXITED(status) ? WEXITSTATUS(status) : 1);
}

static void notify(struct sock_fprog *filter, char **program)
{
	volatile int *listener = mmap(NULL, sizeof *listener, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct seccomp_notif_sizes sizes;
	struct seccomp_notif *asked;
	struct seccomp_notif_resp *answer;

	*listener = -1;
	signal(SIGCHLD, ended);
	/* the listener's descriptor is the child's: they share the table until it executes */
	child = syscall(SYS_clone, CLONE_FILES | SIGCHLD, 0, 0, 0, 0);
	if (child < 0)
		fail("clone");
	if (!child) {
		signal(SIGCHLD, SIG_DFL);
		*listener = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_NEW_LISTENER, filter);
		if (*listener < 0)
			fail("seccomp");
		execute(program);
	}
	while (*listener < 0)
		usleep(100);
	if (syscall(SYS_seccomp, SECCOMP_GET_NOTIF_SIZES, 0, &sizes))
		fail("sizes");
	asked = malloc(sizes.seccomp_notif);
	answer = malloc(sizes.seccomp_notif_resp);
	/* the task that waits and the one that answers take turns: wake them so, on 6.6 and later */
	(void)ioctl(*listener, SECCOMP_IOW(4, __u64), 1UL);
	for (;;) {
		memset(asked, 0, sizes.seccomp_notif);
		if (ioctl(*listener, SECCOMP_IOCTL_NOTIF_RECV, asked))
			continue;
		note(asked_of, asked->data.nr);
		memset(answer, 0, sizes.seccomp_notif_resp);
		answer->id = asked->id;
		answer->flags = SECCOMP_USER_NOTIF_FLAG_CONTINUE;
		(void)ioctl(*listener, SECCOMP_IOCTL_NOTIF_SEND, answer);
	}
}

static void flood(long calls)
{
	double began = now();

	for (long at = 0; at < calls; at++)
		(void)syscall(FIRST + at);
	printf("%f\n", (now() - began) * 1e6 / calls);
}

static void orphan(void)
{
	kill(getppid(), SIGKILL);
	errno = 0;
	(void)syscall(SYS_getppid);
	puts(errno ? strerrorname_np(errno) : "done");
}

/* ---- what LOG's reader is told ---- */

static void note_line(set_t set, const char *line)
{
	const char *nr = strstr(line, " syscall=");

	if (nr)
		note(set, strtol(nr + strlen(" syscall="), NULL, 10));
}

static void listen_to(void)
{
	struct sockaddr_nl group = { .nl_family = AF_NETLINK, .nl_groups = 1u << (AUDIT_NLGRP_READLOG - 1) };
	int log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	int audit = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_AUDIT);
	struct pollfd waits[] = { { .fd = 0, .events = POLLIN }, { .fd = log, .events = POLLIN }, { .fd = audit, .events = POLLIN } };
	static set_t of_log, of_audit;
	static char text[1 << 14];
	int room = 1 << 24, last = 0;
	ssize_t len;

	if (log < 0 || lseek(log, 0, SEEK_END) < 0)
		fail("/dev/kmsg");
	if (audit < 0 || bind(audit, (struct sockaddr *)&group, sizeof group))
		fail("audit");
	(void)setsockopt(audit, SOL_SOCKET, SO_RCVBUFFORCE, &room, sizeof room);
	puts("ready");
	/* what is on its way at the end has a second to arrive */
	while (poll(waits, 3, last ? 1000 : -1) > 0) {
		if (waits[0].revents) {
			waits[0].fd = -1;
			last = 1;
		}
		while ((len = recv(audit, text, sizeof text - 1, MSG_DONTWAIT)) > 0) {
			text[len] = 0;
			if (((struct nlmsghdr *)text)->nlmsg_type == AUDIT_SECCOMP)
				note_line(of_audit, text + NLMSG_HDRLEN);
		}
		while ((len = read(log, text, sizeof text - 1)) > 0 || errno == EPIPE) { /* EPIPE: overwritten, the next is there */
			text[len > 0 ? len : 0] = 0;
			if (strstr(text, "type=1326"))
				note_line(of_log, text);
		}
	}
	printf("%d %d\n", distinct(of_log), distinct(of_audit));
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";

	setvbuf(stdout, NULL, _IOLBF, 0);
	if (argc == 2 && !strcmp(verb, "storage")) {
		by_storage();
	} else if (argc == 6 && !strcmp(verb, "loads")) {
		by_loads(argv + 2);
	} else if (argc == 3 && !strcmp(verb, "tracepoints")) {
		tracepoints(argv[2]);
	} else if (argc > 3 && (!strcmp(verb, "filter") || !strcmp(verb, "notify"))) {
		struct sock_fprog filter = program_of(argv[2]);

		if (!strcmp(verb, "notify"))
			notify(&filter, argv + 3);
		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter))
			fail("prctl");
		execute(argv + 3);
	} else if (argc == 3 && !strcmp(verb, "flood")) {
		flood(atol(argv[2]));
	} else if (argc == 2 && !strcmp(verb, "orphan")) {
		orphan();
	} else if (argc == 2 && !strcmp(verb, "listen")) {
		listen_to();
	} else {
		return 2;
	}
	return 0;
}
