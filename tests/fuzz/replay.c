/*
 * replay.c - run a fuzz target over files that were found before
 *
 * main() of the corpus tests: every file of the folders given as arguments
 * goes once through LLVMFuzzerTestOneInput. Needs neither clang nor libFuzzer,
 * so that `make check` runs every input the fuzzers ever found interesting. A
 * finding ends the process by abort() or by a sanitizer, which aborts too
 * (abort_on_error); the handler then names the file.
 *
 * Fails when there is no file: a corpus that was moved must not pass.
 */
#include <dirent.h>
#include <limits.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
const char *__asan_default_options(void);
const char *__ubsan_default_options(void);

/* The file that runs now, for the handler. */
static const char *running = "(none)";

/* Read by the sanitizers' runtime, when there is one. */
const char *
__asan_default_options(void)
{
	return "abort_on_error=1";
}

const char *
__ubsan_default_options(void)
{
	return "abort_on_error=1";
}

/* Only async-signal-safe calls. */
static void
on_abort(int signo)
{
	static const char text[] = "\nfinding in ";

	(void)signo;
	if (write(2, text, sizeof(text) - 1) < 0 ||
		write(2, running, strlen(running)) < 0 || write(2, "\n", 1) < 0)
		_exit(1);
	_exit(1);
}

/* 1, or 0 when the path is not a file. */
static int
replay_file(const char *path)
{
	FILE *f = fopen(path, "r");
	struct stat st;
	uint8_t *data;
	size_t n;

	if (f == NULL || fstat(fileno(f), &st) < 0) {
		perror(path);
		exit(1);
	}
	if (!S_ISREG(st.st_mode)) {
		fclose(f);
		return 0;
	}
	/* exactly the size, so that reading behind the end is seen */
	data = malloc(st.st_size != 0 ? (size_t)st.st_size : 1);
	if (data == NULL) {
		perror(path);
		exit(1);
	}
	n = fread(data, 1, (size_t)st.st_size, f);
	fclose(f);
	if (n != (size_t)st.st_size) {
		fprintf(stderr, "%s: short read\n", path);
		exit(1);
	}
	LLVMFuzzerTestOneInput(data, n);
	free(data);
	return 1;
}

static unsigned
replay_folder(const char *folder)
{
	DIR *d = opendir(folder);
	char path[PATH_MAX];
	struct dirent *e;
	unsigned n = 0;

	if (d == NULL) {
		perror(folder);
		exit(1);
	}
	while ((e = readdir(d)) != NULL) {
		if (e->d_name[0] == '.')
			continue;
		snprintf(path, sizeof(path), "%s/%s", folder, e->d_name);
		running = path;
		n += (unsigned)replay_file(path);
	}
	closedir(d);
	running = "(none)";
	return n;
}

int
main(int argc, char **argv)
{
	unsigned n = 0;

	signal(SIGABRT, on_abort);
	signal(SIGSEGV, on_abort);
	for (int i = 1; i < argc; i++)
		n += replay_folder(argv[i]);
	if (n == 0) {
		fprintf(stderr, "%s: no file to replay\n", argv[0]);
		return 1;
	}
	printf("%s: %u inputs\n", argv[0], n);
	return 0;
}
