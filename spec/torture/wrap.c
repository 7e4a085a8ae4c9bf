/* SPDX-License-Identifier: MIT
 *
 * Linked into a core.so of its own (make torture), with -Wl,--wrap for each
 * function below: every call that the core makes, and that can fail, comes here
 * first. The environment tells which one fails:
 *
 * TORTURE_CALL  a function's name
 * TORTURE_AT    the number of its call, from 1
 * TORTURE_EINTR if set, that is how it fails
 * TORTURE_LOG   a file: gets the line "NUMBER FUNCTION WAY PLACE" of the call
 *               that fails; where none is to, of each call. WAY stands for the
 *               core's functions that were on the way to the call
 *
 * A call that fails is not made, but for those whose work cannot stay undone:
 * they are made, and say that they failed.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <curl/curl.h>
#include <dirent.h>
#include <dlfcn.h>
#include <execinfo.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/kdf.h>
#include <openssl/rand.h>
#include <poll.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <sys/vfs.h>
#include <time.h>
#include <unistd.h>

/* Of the sanitizers' runtime: file and line of a program counter. */
void __sanitizer_symbolize_pc(void *pc, const char *format, char *out,
                              size_t size) __attribute__((weak));

/* In this link their plain names mean the wrappers below. */
int __real_open(const char *path, int flags, mode_t mode);
ssize_t __real_write(int fd, const void *data, size_t size);

static const char *fail_call; /* NULL: none fails */
static long fail_at;
static bool interrupts;
static int log_fd = -1;

/* A number for the calls within the core that led here. */
static size_t way_here(void)
{
    void *frames[32];
    int count = backtrace(frames, (int)(sizeof frames / sizeof *frames));
    Dl_info core;
    Dl_info there;
    size_t way = 0;

    (void)dladdr(&log_fd, &core);
    for (int i = 0; i < count; i++)
        if (dladdr(frames[i], &there) && there.dli_fbase == core.dli_fbase)
            way =
                way * 31 + (size_t)((char *)frames[i] - (char *)core.dli_fbase);
    return way;
}

static void note(long number, const char *function, void *caller)
{
    char place[512] = "?";
    char line[1024];
    int len = 0;

    if (log_fd < 0)
        return;
    if (__sanitizer_symbolize_pc)
        __sanitizer_symbolize_pc(caller, "%S", place, sizeof place);
    len = snprintf(line, sizeof line, "%ld %s %zx %s\n", number, function,
                   way_here(), place);
    if (len > 0)
        (void)!__real_write(log_fd, line, (size_t)len);
}

__attribute__((constructor)) static void read_plan(void)
{
    const char *at = getenv("TORTURE_AT");
    const char *log = getenv("TORTURE_LOG");

    fail_call = getenv("TORTURE_CALL");
    fail_at = at ? strtol(at, NULL, 10) : 0;
    interrupts = getenv("TORTURE_EINTR") != NULL;
    if (log)
        log_fd = __real_open(
            log, O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0600);
}

/* The latest of the destructors but gcov's, whose calls are not the core's. */
__attribute__((destructor(101))) static void end_plan(void)
{
    fail_call = "";
}

static bool fails(const char *function, atomic_long *calls, void *caller)
{
    int number = errno;
    long count = atomic_fetch_add(calls, 1) + 1;
    bool result =
        fail_call && count == fail_at && strcmp(function, fail_call) == 0;

    if (result || !fail_call)
        note(count, function, caller);
    errno = number;
    return result;
}

#define FAILS(name) fails(#name, &calls, __builtin_return_address(0))

/* Not made: `failed` is what it returns, `number` its errno. */
#define WRAP(type, name, params, args, failed, number)                         \
    type __real_##name params;                                                 \
    type __wrap_##name params;                                                 \
    type __wrap_##name params                                                  \
    {                                                                          \
        static atomic_long calls;                                              \
                                                                               \
        if (!FAILS(name))                                                      \
            return __real_##name args;                                         \
        errno = interrupts ? EINTR : number;                                   \
        return failed;                                                         \
    }

/* Made all the same. */
#define WRAP_MADE(type, name, params, args, failed, number)                    \
    type __real_##name params;                                                 \
    type __wrap_##name params;                                                 \
    type __wrap_##name params                                                  \
    {                                                                          \
        static atomic_long calls;                                              \
        bool failing = FAILS(name);                                            \
        type result = __real_##name args;                                      \
                                                                               \
        if (!failing)                                                          \
            return result;                                                     \
        errno = interrupts ? EINTR : number;                                   \
        return failed;                                                         \
    }

/* ---- memory ---------------------------------------------------------------
 */

WRAP(void *, malloc, (size_t size), (size), NULL, ENOMEM)
WRAP(void *, calloc, (size_t count, size_t size), (count, size), NULL, ENOMEM)
WRAP(void *, realloc, (void *data, size_t size), (data, size), NULL, ENOMEM)
WRAP(char *, strdup, (const char *text), (text), NULL, ENOMEM)
WRAP(void *, CRYPTO_malloc, (size_t size, const char *file, int line),
     (size, file, line), NULL, ENOMEM)
WRAP(void *, CRYPTO_zalloc, (size_t size, const char *file, int line),
     (size, file, line), NULL, ENOMEM)
WRAP(char *, CRYPTO_strdup, (const char *text, const char *file, int line),
     (text, file, line), NULL, ENOMEM)
WRAP(void *, CRYPTO_clear_realloc,
     (void *data, size_t old, size_t size, const char *file, int line),
     (data, old, size, file, line), NULL, ENOMEM)

/* ---- libcurl --------------------------------------------------------------
 */

#undef curl_easy_setopt
#undef curl_easy_getinfo
#undef curl_multi_setopt

WRAP(CURLcode, curl_global_init, (long flags), (flags), CURLE_FAILED_INIT, 0)
WRAP(CURL *, curl_easy_init, (void), (), NULL, ENOMEM)
/* Whatever the third argument is, one register holds it. */
WRAP(CURLcode, curl_easy_setopt, (CURL * easy, CURLoption option, void *value),
     (easy, option, value), CURLE_OUT_OF_MEMORY, 0)
WRAP(CURLcode, curl_easy_getinfo, (CURL * easy, CURLINFO info, void *value),
     (easy, info, value), CURLE_BAD_FUNCTION_ARGUMENT, 0)
WRAP(CURLM *, curl_multi_init, (void), (), NULL, ENOMEM)
WRAP(CURLMcode, curl_multi_setopt,
     (CURLM * multi, CURLMoption option, void *value), (multi, option, value),
     CURLM_OUT_OF_MEMORY, 0)
WRAP(CURLMcode, curl_multi_add_handle, (CURLM * multi, CURL *easy),
     (multi, easy), CURLM_OUT_OF_MEMORY, 0)
WRAP_MADE(CURLMcode, curl_multi_remove_handle, (CURLM * multi, CURL *easy),
          (multi, easy), CURLM_INTERNAL_ERROR, 0)
WRAP(CURLMcode, curl_multi_perform, (CURLM * multi, int *running),
     (multi, running), CURLM_OUT_OF_MEMORY, 0)
WRAP(CURLMcode, curl_multi_poll,
     (CURLM * multi, struct curl_waitfd fds[], unsigned int count, int timeout,
      int *ready),
     (multi, fds, count, timeout, ready), CURLM_OUT_OF_MEMORY, 0)
WRAP(CURLMcode, curl_multi_wakeup, (CURLM * multi), (multi),
     CURLM_WAKEUP_FAILURE, 0)
WRAP_MADE(CURLMcode, curl_multi_cleanup, (CURLM * multi), (multi),
          CURLM_INTERNAL_ERROR, 0)
WRAP(struct curl_slist *, curl_slist_append,
     (struct curl_slist * list, const char *text), (list, text), NULL, ENOMEM)
WRAP(CURLU *, curl_url, (void), (), NULL, ENOMEM)
WRAP(CURLUcode, curl_url_set,
     (CURLU * url, CURLUPart part, const char *text, unsigned int flags),
     (url, part, text, flags), CURLUE_OUT_OF_MEMORY, 0)
WRAP(CURLUcode, curl_url_get,
     (CURLU * url, CURLUPart part, char **text, unsigned int flags),
     (url, part, text, flags), CURLUE_OUT_OF_MEMORY, 0)

/* ---- OpenSSL --------------------------------------------------------------
 */

WRAP(int, RAND_bytes, (unsigned char *bytes, int count), (bytes, count), 0, 0)
WRAP(int, EVP_Digest,
     (const void *data, size_t count, unsigned char *out, unsigned int *size,
      const EVP_MD *type, ENGINE *engine),
     (data, count, out, size, type, engine), 0, 0)
WRAP(EVP_MD *, EVP_MD_fetch,
     (OSSL_LIB_CTX * context, const char *name, const char *properties),
     (context, name, properties), NULL, 0)
WRAP(EVP_MD_CTX *, EVP_MD_CTX_new, (void), (), NULL, 0)
WRAP(int, EVP_DigestInit_ex2,
     (EVP_MD_CTX * context, const EVP_MD *type, const OSSL_PARAM params[]),
     (context, type, params), 0, 0)
WRAP(int, EVP_DigestUpdate,
     (EVP_MD_CTX * context, const void *data, size_t count),
     (context, data, count), 0, 0)
WRAP(int, EVP_DigestFinal_ex,
     (EVP_MD_CTX * context, unsigned char *out, unsigned int *size),
     (context, out, size), 0, 0)
WRAP(EVP_MAC *, EVP_MAC_fetch,
     (OSSL_LIB_CTX * context, const char *name, const char *properties),
     (context, name, properties), NULL, 0)
WRAP(EVP_MAC_CTX *, EVP_MAC_CTX_new, (EVP_MAC * mac), (mac), NULL, 0)
WRAP(int, EVP_MAC_init,
     (EVP_MAC_CTX * context, const unsigned char *key, size_t size,
      const OSSL_PARAM params[]),
     (context, key, size, params), 0, 0)
WRAP(int, EVP_MAC_update,
     (EVP_MAC_CTX * context, const unsigned char *data, size_t size),
     (context, data, size), 0, 0)
WRAP(int, EVP_MAC_final,
     (EVP_MAC_CTX * context, unsigned char *out, size_t *size, size_t room),
     (context, out, size, room), 0, 0)
WRAP(EVP_KDF *, EVP_KDF_fetch,
     (OSSL_LIB_CTX * context, const char *name, const char *properties),
     (context, name, properties), NULL, 0)
WRAP(EVP_KDF_CTX *, EVP_KDF_CTX_new, (EVP_KDF * kdf), (kdf), NULL, 0)
WRAP(int, EVP_KDF_derive,
     (EVP_KDF_CTX * context, unsigned char *key, size_t size,
      const OSSL_PARAM params[]),
     (context, key, size, params), 0, 0)

/* ---- threads and signals --------------------------------------------------
 */

WRAP(int, pthread_create,
     (pthread_t * thread, const pthread_attr_t *attributes,
      void *(*start)(void *), void *user),
     (thread, attributes, start, user), EAGAIN, 0)
WRAP(int, pthread_mutex_init,
     (pthread_mutex_t * mutex, const pthread_mutexattr_t *attributes),
     (mutex, attributes), ENOMEM, 0)
WRAP(int, pthread_cond_init,
     (pthread_cond_t * condition, const pthread_condattr_t *attributes),
     (condition, attributes), ENOMEM, 0)
WRAP(int, pthread_condattr_init, (pthread_condattr_t * attributes),
     (attributes), ENOMEM, 0)
WRAP(int, pthread_condattr_setclock,
     (pthread_condattr_t * attributes, clockid_t clock), (attributes, clock),
     EINVAL, 0)
WRAP(int, pthread_cond_timedwait,
     (pthread_cond_t * condition, pthread_mutex_t *mutex,
      const struct timespec *until),
     (condition, mutex, until), ETIMEDOUT, 0)
WRAP(int, pthread_atfork,
     (void (*before)(void), void (*in_parent)(void), void (*in_child)(void)),
     (before, in_parent, in_child), ENOMEM, 0)
WRAP(int, sigaction,
     (int number, const struct sigaction *action, struct sigaction *former),
     (number, action, former), -1, EINVAL)
WRAP(int, nanosleep, (const struct timespec *time, struct timespec *left),
     (time, left), -1, EINTR)

/* ---- sockets --------------------------------------------------------------
 */

WRAP(int, socket, (int family, int type, int protocol),
     (family, type, protocol), -1, EMFILE)
WRAP(int, socketpair, (int family, int type, int protocol, int ends[2]),
     (family, type, protocol, ends), -1, EMFILE)
WRAP(int, bind, (int fd, const struct sockaddr *address, socklen_t size),
     (fd, address, size), -1, EACCES)
WRAP(int, listen, (int fd, int backlog), (fd, backlog), -1, EADDRINUSE)
WRAP(int, accept4,
     (int fd, struct sockaddr *address, socklen_t *size, int flags),
     (fd, address, size, flags), -1, EMFILE)
WRAP(int, getsockopt,
     (int fd, int level, int option, void *value, socklen_t *size),
     (fd, level, option, value, size), -1, ENOBUFS)
WRAP(int, getsockname, (int fd, struct sockaddr *address, socklen_t *size),
     (fd, address, size), -1, ENOBUFS)
WRAP(int, poll, (struct pollfd * entries, nfds_t count, int timeout),
     (entries, count, timeout), -1, EINTR)
WRAP(ssize_t, send, (int fd, const void *data, size_t size, int flags),
     (fd, data, size, flags), -1, ENOBUFS)
WRAP(ssize_t, recv, (int fd, void *data, size_t size, int flags),
     (fd, data, size, flags), -1, ENOMEM)

/* ---- files ----------------------------------------------------------------
 */

WRAP(char *, mkdtemp, (char *path), (path), NULL, EACCES)
WRAP(int, unlink, (const char *path), (path), -1, EACCES)
WRAP(int, rmdir, (const char *path), (path), -1, EACCES)
WRAP(int, open, (const char *path, int flags, mode_t mode), (path, flags, mode),
     -1, EMFILE)
WRAP(int, openat, (int fd, const char *path, int flags, mode_t mode),
     (fd, path, flags, mode), -1, EMFILE)
WRAP(int, mkdirat, (int fd, const char *path, mode_t mode), (fd, path, mode),
     -1, ENOSPC)
WRAP(int, unlinkat, (int fd, const char *path, int flags), (fd, path, flags),
     -1, EROFS)
WRAP(int, renameat, (int from, const char *name, int to, const char *new_name),
     (from, name, to, new_name), -1, ENOSPC)
WRAP(int, fstat, (int fd, struct stat *status), (fd, status), -1, EIO)
WRAP(int, fstatat, (int fd, const char *path, struct stat *status, int flags),
     (fd, path, status, flags), -1, EIO)
WRAP(int, fstatfs, (int fd, struct statfs *status), (fd, status), -1, EIO)
WRAP(int, fchmod, (int fd, mode_t mode), (fd, mode), -1, EPERM)
WRAP(int, fchmodat, (int fd, const char *path, mode_t mode, int flags),
     (fd, path, mode, flags), -1, EPERM)
WRAP(int, ftruncate, (int fd, off_t size), (fd, size), -1, EIO)
WRAP(int, fsync, (int fd), (fd), -1, EIO)
WRAP(int, syncfs, (int fd), (fd), -1, EIO)
WRAP(int, flock, (int fd, int operation), (fd, operation), -1, ENOLCK)
WRAP(ssize_t, read, (int fd, void *data, size_t size), (fd, data, size), -1,
     EIO)
WRAP(ssize_t, pread, (int fd, void *data, size_t size, off_t at),
     (fd, data, size, at), -1, EIO)
WRAP(ssize_t, write, (int fd, const void *data, size_t size), (fd, data, size),
     -1, ENOSPC)
WRAP_MADE(int, close, (int fd), (fd), -1, EIO)
WRAP(DIR *, fdopendir, (int fd), (fd), NULL, ENOMEM)
WRAP(struct dirent *, readdir, (DIR * stream), (stream), NULL, EIO)

/* ---- the system -----------------------------------------------------------
 */

WRAP(int, uname, (struct utsname * system), (system), -1, EFAULT)
WRAP(int, gethostname, (char *name, size_t size), (name, size), -1, EPERM)
WRAP(struct tm *, gmtime_r, (const time_t *time, struct tm *out), (time, out),
     NULL, EOVERFLOW)
