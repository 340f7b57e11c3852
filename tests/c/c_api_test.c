/* The C door, used from C alone: every function, and what each refuses. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "forebay/forebay.h"

static int failures = 0;

#define CHECK(condition)                                                     \
  do {                                                                       \
    if (!(condition)) {                                                      \
      printf("%s:%d: %s (last error: %s)\n", __FILE__, __LINE__, #condition, \
             forebay_last_error());                                          \
      ++failures;                                                            \
    }                                                                        \
  } while (0)

/* A call that is refused, and its line. */
#define CHECK_REFUSED(call, expected, text)                                                      \
  do {                                                                                           \
    CHECK((call) == (expected));                                                                 \
    if (strcmp(forebay_last_error(), (text)) != 0) {                                             \
      printf("%s:%d: '%s' instead of '%s'\n", __FILE__, __LINE__, forebay_last_error(), (text)); \
      ++failures;                                                                                \
    }                                                                                            \
  } while (0)

static uint64_t now_ns = 1000000000;
static uint64_t told_time(void* context) { return *(uint64_t*)context; }

static forebay_cache_options small_options(void) {
  forebay_cache_options options = {.size = sizeof options};
  options.max_bytes = 64 << 10;
  options.shards = 1;
  options.clock = told_time;
  options.clock_context = &now_ns;
  return options;
}

static forebay_cache* small_cache(void) {
  const forebay_cache_options options = small_options();
  forebay_cache* cache = NULL;
  CHECK(forebay_cache_create(&options, &cache) == FOREBAY_OK);
  return cache;
}

static forebay_cache_stats stats_of(const forebay_cache* cache) {
  forebay_cache_stats stats = {.size = sizeof stats};
  CHECK(forebay_cache_get_stats(cache, &stats) == FOREBAY_OK);
  return stats;
}

static forebay_status put_text(forebay_cache* cache, const char* key, const char* value) {
  return forebay_cache_put(cache, key, strlen(key), value, strlen(value), NULL, NULL);
}

static bool holds(forebay_cache* cache, const char* key, const char* value) {
  forebay_entry entry;
  if (forebay_cache_find(cache, key, strlen(key), &entry) != FOREBAY_OK) return false;
  const bool same = entry.value_size == strlen(value) &&
                    memcmp(entry.value, value, entry.value_size) == 0 &&
                    entry.key_size == strlen(key) && memcmp(entry.key, key, entry.key_size) == 0 &&
                    (uintptr_t)entry.key % 8 == 0 && (uintptr_t)entry.value % 8 == 0;
  forebay_entry_release(&entry);
  return same && entry.key == NULL;
}

static void test_names(void) {
  CHECK(strcmp(forebay_version(), "0.1.0") == 0);
  CHECK(strcmp(forebay_status_name(FOREBAY_OK), "ok") == 0);
  CHECK(strcmp(forebay_status_name(FOREBAY_MEMORY_REFUSED), "memory_refused") == 0);
  CHECK(strcmp(forebay_status_name(FOREBAY_INTERRUPTED), "interrupted") == 0);
  CHECK(strcmp(forebay_status_name(FOREBAY_USER + 5), "user") == 0);
  CHECK(strcmp(forebay_status_name(77), "unknown") == 0);
  CHECK(strcmp(forebay_status_name(-1), "unknown") == 0);
  CHECK_REFUSED(forebay_fail(FOREBAY_IO_ERROR, "no disk"), FOREBAY_IO_ERROR, "no disk");
  CHECK_REFUSED(forebay_fail(FOREBAY_OK, NULL), FOREBAY_OK, "");
  char long_text[3000];
  memset(long_text, 'x', sizeof long_text);
  long_text[sizeof long_text - 1] = '\0';
  CHECK(forebay_fail(FOREBAY_USER, long_text) == FOREBAY_USER);
  CHECK(strlen(forebay_last_error()) == 1000);
}

static void test_finding_and_putting(void) {
  forebay_cache* cache = small_cache();
  forebay_entry entry;
  CHECK(forebay_cache_find(cache, "key", 3, &entry) == FOREBAY_NOT_FOUND);
  CHECK(entry.key == NULL);
  forebay_put_outcome outcome = -1;
  CHECK(forebay_cache_put(cache, "key", 3, "first", 5, NULL, &outcome) == FOREBAY_OK);
  CHECK(outcome == FOREBAY_INSERTED);
  CHECK(holds(cache, "key", "first"));
  CHECK(forebay_cache_put_if_absent(cache, "key", 3, "other", 5, NULL, &outcome) == FOREBAY_OK);
  CHECK(outcome == FOREBAY_PRESENT);
  CHECK(holds(cache, "key", "first"));
  /* What is held stays as it is. */
  CHECK(forebay_cache_find(cache, "key", 3, &entry) == FOREBAY_OK);
  const char* long_value = "a value that is longer than any that a string keeps inside itself";
  CHECK(forebay_cache_put(cache, "key", 3, long_value, strlen(long_value), NULL, &outcome) ==
        FOREBAY_OK);
  CHECK(outcome == FOREBAY_PUT_REPLACED);
  CHECK(holds(cache, "key", long_value));
  CHECK(entry.value_size == 5 && memcmp(entry.value, "first", 5) == 0);
  forebay_entry_release(&entry);
  forebay_entry_release(&entry);
  forebay_entry_release(NULL);
  /* No bytes are bytes too. */
  CHECK(forebay_cache_put(cache, NULL, 0, NULL, 0, NULL, NULL) == FOREBAY_OK);
  CHECK(forebay_cache_find(cache, "", 0, &entry) == FOREBAY_OK);
  CHECK(entry.key != NULL && entry.key_size == 0 && entry.value_size == 0);
  forebay_entry_release(&entry);
  CHECK(forebay_cache_put(cache, "a\0b", 3, "x\0y", 3, NULL, NULL) == FOREBAY_OK);
  CHECK(forebay_cache_find(cache, "a\0b", 3, &entry) == FOREBAY_OK);
  CHECK(entry.value_size == 3 && memcmp(entry.value, "x\0y", 3) == 0);
  forebay_entry_release(&entry);
  bool erased = false;
  CHECK(forebay_cache_erase(cache, "key", 3, &erased) == FOREBAY_OK && erased);
  CHECK(forebay_cache_erase(cache, "key", 3, &erased) == FOREBAY_OK && !erased);
  CHECK(forebay_cache_erase(cache, "key", 3, NULL) == FOREBAY_OK);
  const forebay_cache_stats stats = stats_of(cache);
  CHECK(stats.entries == 2 && stats.erased == 1 && stats.replaced == 1 && stats.insertions == 4);
  CHECK(stats.hits + stats.misses == stats.lookups && stats.misses == 1);
  CHECK(stats.used > 0 && stats.used <= stats.peak && stats.peak <= stats.max_bytes);
  CHECK(forebay_cache_clear(cache) == FOREBAY_OK);
  CHECK(stats_of(cache).entries == 0 && stats_of(cache).used == 0);
  CHECK(stats_of(cache).cleared == 2);
  CHECK(forebay_cache_destroy(cache) == FOREBAY_OK);
  CHECK(forebay_cache_destroy(NULL) == FOREBAY_OK);
}

static void test_lines(void) {
  forebay_cache* cache = small_cache();
  char key[16];
  char value[1000] = {0};
  for (int i = 0; i != 200; ++i) {
    const int length = snprintf(key, sizeof key, "%d", i);
    CHECK(forebay_cache_put(cache, key, (size_t)length, value, sizeof value, NULL, NULL) ==
          FOREBAY_OK);
  }
  forebay_cache_stats stats = stats_of(cache);
  CHECK(stats.evicted + stats.entries == 200 && stats.evicted > 100);
  CHECK(stats.used <= stats.max_bytes && stats.used > stats.max_bytes - 2000);
  CHECK(forebay_cache_set_max_bytes(cache, 32 << 10) == FOREBAY_OK);
  stats = stats_of(cache);
  CHECK(stats.max_bytes == 32 << 10 && stats.used <= stats.max_bytes);
  uint64_t freed = 0;
  CHECK(forebay_cache_reclaim(cache, 10000, &freed) == FOREBAY_OK);
  CHECK(freed >= 10000 && stats_of(cache).used == stats.used - freed);
  CHECK(forebay_cache_reclaim(cache, 1, NULL) == FOREBAY_OK);
  CHECK(forebay_cache_set_max_bytes(cache, 0) == FOREBAY_INVALID_ARGUMENT);
  char* large = calloc(1, 64 << 10);
  CHECK(large != NULL);
  CHECK(forebay_cache_put(cache, "k", 1, large, 64 << 10, NULL, NULL) == FOREBAY_MEMORY_REFUSED);
  CHECK(strstr(forebay_last_error(), "it is larger than the cache") != NULL);
  free(large);
  CHECK(forebay_cache_destroy(cache) == FOREBAY_OK);
}

static void test_time(void) {
  forebay_cache* cache = small_cache();
  const uint64_t second = 1000000000;
  const forebay_put_options soon = {.size = sizeof soon, .ttl_ns = second};
  const forebay_put_options late = {.size = sizeof late, .ttl_ns = 1000 * second};
  CHECK(forebay_cache_put(cache, "a", 1, "x", 1, &soon, NULL) == FOREBAY_OK);
  CHECK(forebay_cache_put(cache, "b", 1, "x", 1, &soon, NULL) == FOREBAY_OK);
  CHECK(forebay_cache_put(cache, "c", 1, "x", 1, &late, NULL) == FOREBAY_OK);
  now_ns += second / 2;
  CHECK(holds(cache, "a", "x"));
  now_ns += second;
  CHECK(!holds(cache, "a", "x"));
  CHECK(holds(cache, "c", "x"));
  CHECK(stats_of(cache).stale == 1);
  uint64_t count = 0;
  CHECK(forebay_cache_cleanup_expired(cache, &count) == FOREBAY_OK && count == 2);
  CHECK(forebay_cache_cleanup_expired(cache, NULL) == FOREBAY_OK);
  CHECK(stats_of(cache).expired == 2);
  CHECK(forebay_cache_destroy(cache) == FOREBAY_OK);
}

static forebay_status load_twice(void* context, const void* key, size_t key_size,
                                 forebay_value* value) {
  ++*(int*)context;
  void* bytes = NULL;
  const forebay_status status = forebay_value_resize(value, 2 * key_size, &bytes);
  if (status != FOREBAY_OK) return status;
  memcpy(bytes, key, key_size);
  memcpy((char*)bytes + key_size, key, key_size);
  return FOREBAY_OK;
}
static forebay_status load_text(void* context, const void* key, size_t key_size,
                                forebay_value* value) {
  (void)key;
  (void)key_size;
  return forebay_value_assign(value, context, strlen(context));
}
static forebay_status load_nothing(void* context, const void* key, size_t key_size,
                                   forebay_value* value) {
  (void)context;
  (void)key;
  (void)key_size;
  (void)value;
  return FOREBAY_OK;
}
static forebay_status fail_plainly(void* context, const void* key, size_t key_size,
                                   forebay_value* value) {
  (void)key;
  (void)key_size;
  (void)value;
  return *(forebay_status*)context;
}
static forebay_status fail_with_text(void* context, const void* key, size_t key_size,
                                     forebay_value* value) {
  (void)context;
  (void)key;
  (void)key_size;
  (void)value;
  return forebay_fail(FOREBAY_USER + 42, "the model is away");
}
static forebay_status ask_again(void* context, const void* key, size_t key_size,
                                forebay_value* value) {
  (void)value;
  forebay_entry entry;
  return forebay_cache_get_or_compute(context, key, key_size, load_nothing, NULL, NULL, &entry);
}

static void test_loading(void) {
  forebay_cache* cache = small_cache();
  forebay_entry entry;
  int calls = 0;
  for (int i = 0; i != 3; ++i) {
    CHECK(forebay_cache_get_or_compute(cache, "ab", 2, load_twice, &calls, NULL, &entry) ==
          FOREBAY_OK);
    CHECK(entry.value_size == 4 && memcmp(entry.value, "abab", 4) == 0);
    forebay_entry_release(&entry);
  }
  CHECK(calls == 1);
  char text[] = "made";
  CHECK(forebay_cache_get_or_compute(cache, "t", 1, load_text, text, NULL, &entry) == FOREBAY_OK);
  forebay_entry_release(&entry);
  CHECK(holds(cache, "t", "made"));
  CHECK(forebay_cache_get_or_compute(cache, "n", 1, load_nothing, NULL, NULL, &entry) ==
        FOREBAY_OK);
  CHECK(entry.value_size == 0);
  forebay_entry_release(&entry);
  /* What it fails with is what comes out. */
  forebay_status code = FOREBAY_USER + 7;
  CHECK_REFUSED(forebay_cache_get_or_compute(cache, "f", 1, fail_plainly, &code, NULL, &entry),
                code, "the loader failed with status 1007");
  CHECK(entry.key == NULL);
  CHECK_REFUSED(forebay_cache_get_or_compute(cache, "f", 1, fail_with_text, NULL, NULL, &entry),
                FOREBAY_USER + 42, "the model is away");
  code = FOREBAY_IO_ERROR;
  CHECK(forebay_cache_get_or_compute(cache, "f", 1, fail_plainly, &code, NULL, &entry) == code);
  CHECK_REFUSED(forebay_cache_get_or_compute(cache, "f", 1, ask_again, cache, NULL, &entry),
                FOREBAY_FAILED_PRECONDITION, "cache cache: a loader asks for its own key");
  /* A failure that is kept is the answer for a while. */
  const forebay_put_options kept = {.size = sizeof kept, .failure_ttl_ns = 1000000000};
  code = FOREBAY_USER;
  CHECK(forebay_cache_get_or_compute(cache, "k", 1, fail_plainly, &code, &kept, &entry) == code);
  CHECK(forebay_cache_get_or_compute(cache, "k", 1, load_nothing, NULL, &kept, &entry) == code);
  now_ns += 2000000000;
  CHECK(forebay_cache_get_or_compute(cache, "k", 1, load_nothing, NULL, &kept, &entry) ==
        FOREBAY_OK);
  forebay_entry_release(&entry);
  const forebay_cache_stats stats = stats_of(cache);
  CHECK(stats.loads == 9 && stats.load_failures == 5 && stats.loads_shared == 1);
  CHECK(forebay_cache_destroy(cache) == FOREBAY_OK);
}

struct removals {
  int count[5];
  size_t bytes;
};
static void note_removal(void* context, const void* key, size_t key_size, const void* value,
                         size_t value_size, forebay_removal reason) {
  struct removals* to = context;
  (void)key;
  (void)value;
  ++to->count[reason];
  to->bytes += key_size + value_size;
}

static void test_listening(void) {
  struct removals removals = {{0}, 0};
  forebay_cache_options options = small_options();
  options.max_entries = 3;
  options.policy = "fifo";
  options.listener = note_removal;
  options.listener_context = &removals;
  forebay_cache* cache = NULL;
  CHECK(forebay_cache_create(&options, &cache) == FOREBAY_OK);
  CHECK(put_text(cache, "a", "1") == FOREBAY_OK);
  CHECK(put_text(cache, "a", "2") == FOREBAY_OK);
  const forebay_put_options soon = {.size = sizeof soon, .ttl_ns = 1};
  CHECK(forebay_cache_put(cache, "b", 1, "3", 1, &soon, NULL) == FOREBAY_OK);
  CHECK(put_text(cache, "c", "4") == FOREBAY_OK);
  CHECK(put_text(cache, "d", "5") == FOREBAY_OK);
  now_ns += 1000000000;
  CHECK(forebay_cache_cleanup_expired(cache, NULL) == FOREBAY_OK);
  CHECK(forebay_cache_erase(cache, "c", 1, NULL) == FOREBAY_OK);
  CHECK(forebay_cache_destroy(cache) == FOREBAY_OK);
  CHECK(removals.count[FOREBAY_EVICTED] == 1 && removals.count[FOREBAY_REPLACED] == 1);
  CHECK(removals.count[FOREBAY_EXPIRED] == 1 && removals.count[FOREBAY_ERASED] == 1);
  CHECK(removals.count[FOREBAY_CLEARED] == 1 && removals.bytes == 10);
}

static bool count_up_to_three(void* context, const void* key, size_t key_size, const void* value,
                              size_t value_size) {
  CHECK(key_size == 1 && value_size == 1 && *(const char*)key == *(const char*)value);
  return ++*(int*)context != 3;
}
static bool count_all(void* context, const void* key, size_t key_size, const void* value,
                      size_t value_size) {
  (void)key;
  (void)key_size;
  (void)value;
  (void)value_size;
  ++*(int*)context;
  return true;
}

static void test_visiting(void) {
  forebay_cache* cache = small_cache();
  const char* keys[] = {"a", "b", "c", "d", "e"};
  for (int i = 0; i != 5; ++i) CHECK(put_text(cache, keys[i], keys[i]) == FOREBAY_OK);
  int count = 0;
  CHECK(forebay_cache_each(cache, count_up_to_three, &count) == FOREBAY_OK && count == 3);
  count = 0;
  CHECK(forebay_cache_each(cache, count_all, &count) == FOREBAY_OK && count == 5);
  CHECK(forebay_cache_destroy(cache) == FOREBAY_OK);
}

static void test_budgets(void) {
  forebay_budget* budget = NULL;
  CHECK(forebay_budget_create("process", 32 << 10, &budget) == FOREBAY_OK);
  forebay_cache_options options = small_options();
  options.budget = budget;
  options.name = "shared";
  forebay_cache* cache = NULL;
  CHECK(forebay_cache_create(&options, &cache) == FOREBAY_OK);
  char key[16];
  char value[1000] = {0};
  for (int i = 0; i != 100; ++i) {
    const int length = snprintf(key, sizeof key, "%d", i);
    CHECK(forebay_cache_put(cache, key, (size_t)length, value, sizeof value, NULL, NULL) ==
          FOREBAY_OK);
  }
  forebay_budget_stats stats = {.size = sizeof stats};
  CHECK(forebay_budget_get_stats(budget, &stats) == FOREBAY_OK);
  CHECK(stats.limit == 32 << 10 && stats.used == stats_of(cache).used);
  CHECK(stats.peak <= stats.limit && stats.used > 16 << 10);
  CHECK_REFUSED(forebay_budget_destroy(budget), FOREBAY_FAILED_PRECONDITION,
                "process: 1 caches are charged to it");
  CHECK(forebay_budget_set_limit(budget, 64 << 10) == FOREBAY_OK);
  CHECK(forebay_cache_destroy(cache) == FOREBAY_OK);
  CHECK(forebay_budget_get_stats(budget, &stats) == FOREBAY_OK);
  CHECK(stats.used == 0 && stats.limit == 64 << 10);
  CHECK(forebay_budget_destroy(budget) == FOREBAY_OK);
  CHECK(forebay_budget_destroy(NULL) == FOREBAY_OK);
}

static void test_saving(void) {
  char folder[] = "/tmp/forebay-c-XXXXXX";
  CHECK(mkdtemp(folder) != NULL);
  char path[64];
  snprintf(path, sizeof path, "%s/cache", folder);
  forebay_cache_options options = small_options();
  options.content = "texts of a test";
  forebay_cache* cache = NULL;
  CHECK(forebay_cache_create(&options, &cache) == FOREBAY_OK);
  CHECK(put_text(cache, "a", "1") == FOREBAY_OK);
  CHECK(put_text(cache, "b", "2") == FOREBAY_OK);
  const forebay_put_options soon = {.size = sizeof soon, .ttl_ns = 5000000000};
  CHECK(forebay_cache_put(cache, "c", 1, "3", 1, &soon, NULL) == FOREBAY_OK);
  forebay_saved saved = {.size = sizeof saved};
  CHECK(forebay_cache_save(cache, path, &saved) == FOREBAY_OK);
  CHECK(saved.entries == 3 && saved.file_bytes > 100);
  CHECK(forebay_cache_save(cache, path, NULL) == FOREBAY_OK);
  CHECK(forebay_cache_load(cache, path, NULL, NULL) == FOREBAY_FAILED_PRECONDITION);
  CHECK(forebay_cache_clear(cache) == FOREBAY_OK);
  const forebay_load_options down = {
      .size = sizeof down, .down_for_given = true, .down_for_ns = 10000000000};
  forebay_loaded loaded = {.size = sizeof loaded};
  CHECK(forebay_cache_load(cache, path, &down, &loaded) == FOREBAY_OK);
  CHECK(loaded.loaded == 2 && loaded.expired == 1);
  CHECK(loaded.did_not_fit == 0 && loaded.present == 0);
  CHECK(holds(cache, "a", "1") && holds(cache, "b", "2") && !holds(cache, "c", "3"));
  CHECK(forebay_cache_clear(cache) == FOREBAY_OK);
  CHECK(forebay_cache_load(cache, path, NULL, NULL) == FOREBAY_OK);
  CHECK(holds(cache, "c", "3"));
  forebay_cache* other = small_cache();
  CHECK(forebay_cache_load(other, path, NULL, NULL) == FOREBAY_CORRUPT_DATA);
  CHECK(strstr(forebay_last_error(), "it holds 'bytes: texts of a test', and 'bytes' is expected"));
  CHECK(forebay_cache_load(other, "/nowhere/at/all", NULL, NULL) == FOREBAY_NOT_FOUND);
  CHECK(forebay_cache_save(other, "/nowhere/at/all", NULL) == FOREBAY_IO_ERROR);
  CHECK(forebay_cache_destroy(other) == FOREBAY_OK);
  CHECK(forebay_cache_destroy(cache) == FOREBAY_OK);
  CHECK(unlink(path) == 0 && rmdir(folder) == 0);
}

static void test_held_entries(void) {
  forebay_cache* cache = small_cache();
  CHECK(put_text(cache, "a", "1") == FOREBAY_OK);
  forebay_entry entry;
  CHECK(forebay_cache_find(cache, "a", 1, &entry) == FOREBAY_OK);
  CHECK_REFUSED(forebay_cache_destroy(cache), FOREBAY_FAILED_PRECONDITION,
                "the cache is empty now, and stays: 1 of its entries are held");
  CHECK(stats_of(cache).pinned == 1 && memcmp(entry.value, "1", 1) == 0);
  forebay_entry_release(&entry);
  CHECK(forebay_cache_destroy(cache) == FOREBAY_OK);
}

/* A structure of a program that was built with a newer header. */
struct newer_options {
  forebay_put_options known;
  uint64_t unknown;
};

static void test_refusals(void) {
  forebay_cache_options options = small_options();
  forebay_cache* cache = NULL;
  CHECK_REFUSED(forebay_cache_create(NULL, &cache), FOREBAY_INVALID_ARGUMENT, "options is NULL");
  CHECK_REFUSED(forebay_cache_create(&options, NULL), FOREBAY_INVALID_ARGUMENT, "cache is NULL");
  options.size = 8;
  CHECK(forebay_cache_create(&options, &cache) == FOREBAY_INVALID_ARGUMENT);
  CHECK(strstr(forebay_last_error(), "options: size is 8, and must be sizeof, at least") != NULL);
  options = small_options();
  options.policy = "clairvoyant";
  CHECK(forebay_cache_create(&options, &cache) == FOREBAY_INVALID_ARGUMENT);
  CHECK(strstr(forebay_last_error(), "policy is 'clairvoyant', and must be one of lru") != NULL);
  options = small_options();
  options.objective = "fame";
  CHECK_REFUSED(forebay_cache_create(&options, &cache), FOREBAY_INVALID_ARGUMENT,
                "cache cache: objective is 'fame', and must be objects, bytes or cost");
  options = small_options();
  options.shards = 3;
  CHECK_REFUSED(forebay_cache_create(&options, &cache), FOREBAY_INVALID_ARGUMENT,
                "cache cache: shards is 3, and must be a power of two of at most 1024");
  CHECK(cache == NULL);

  forebay_entry entry;
  forebay_cache_stats stats = {.size = sizeof stats};
  forebay_budget_stats budget_stats = {.size = sizeof budget_stats};
  CHECK(forebay_cache_find(NULL, "a", 1, &entry) == FOREBAY_INVALID_ARGUMENT);
  CHECK(entry.key == NULL);
  CHECK(forebay_cache_put(NULL, "a", 1, "b", 1, NULL, NULL) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_put_if_absent(NULL, "a", 1, "b", 1, NULL, NULL) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_get_or_compute(NULL, "a", 1, load_nothing, NULL, NULL, &entry) ==
        FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_erase(NULL, "a", 1, NULL) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_clear(NULL) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_set_max_bytes(NULL, 1) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_reclaim(NULL, 1, NULL) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_cleanup_expired(NULL, NULL) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_get_stats(NULL, &stats) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_each(NULL, count_all, NULL) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_save(NULL, "x", NULL) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_cache_load(NULL, "x", NULL, NULL) == FOREBAY_INVALID_ARGUMENT);
  CHECK_REFUSED(forebay_budget_set_limit(NULL, 1), FOREBAY_INVALID_ARGUMENT, "budget is NULL");
  CHECK(forebay_budget_get_stats(NULL, &budget_stats) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_budget_create(NULL, 1, NULL) == FOREBAY_INVALID_ARGUMENT);
  CHECK_REFUSED(forebay_budget_create("b", 1, NULL), FOREBAY_INVALID_ARGUMENT, "budget is NULL");

  cache = small_cache();
  CHECK_REFUSED(forebay_cache_find(cache, "a", 1, NULL), FOREBAY_INVALID_ARGUMENT, "entry is NULL");
  CHECK_REFUSED(forebay_cache_find(cache, NULL, 4, &entry), FOREBAY_INVALID_ARGUMENT,
                "key is NULL, and its size is 4");
  CHECK_REFUSED(forebay_cache_put(cache, "a", 1, NULL, 4, NULL, NULL), FOREBAY_INVALID_ARGUMENT,
                "value is NULL, and its size is 4");
  CHECK_REFUSED(forebay_cache_get_or_compute(cache, "a", 1, NULL, NULL, NULL, &entry),
                FOREBAY_INVALID_ARGUMENT, "loader is NULL");
  CHECK_REFUSED(forebay_cache_get_or_compute(cache, "a", 1, load_nothing, NULL, NULL, NULL),
                FOREBAY_INVALID_ARGUMENT, "entry is NULL");
  CHECK_REFUSED(forebay_cache_each(cache, NULL, NULL), FOREBAY_INVALID_ARGUMENT, "visitor is NULL");
  CHECK_REFUSED(forebay_cache_save(cache, NULL, NULL), FOREBAY_INVALID_ARGUMENT, "path is NULL");
  CHECK_REFUSED(forebay_cache_load(cache, NULL, NULL, NULL), FOREBAY_INVALID_ARGUMENT,
                "path is NULL");
  CHECK_REFUSED(forebay_cache_get_stats(cache, NULL), FOREBAY_INVALID_ARGUMENT, "stats is NULL");
  stats.size = 4;
  CHECK_REFUSED(forebay_cache_get_stats(cache, &stats), FOREBAY_INVALID_ARGUMENT,
                "stats: size is 4, and must be sizeof");
  void* bytes = NULL;
  CHECK(forebay_value_resize(NULL, 1, &bytes) == FOREBAY_INVALID_ARGUMENT);
  CHECK(forebay_value_assign(NULL, "a", 1) == FOREBAY_INVALID_ARGUMENT);

  /* An older program has fewer figures, a newer one more options. */
  stats.size = offsetof(forebay_cache_stats, max_bytes);
  stats.max_bytes = 77;
  CHECK(forebay_cache_get_stats(cache, &stats) == FOREBAY_OK);
  CHECK(stats.max_bytes == 77 && stats.size == offsetof(forebay_cache_stats, max_bytes));
  struct newer_options newer = {.known = {.size = sizeof newer}};
  CHECK(forebay_cache_put(cache, "a", 1, "b", 1, &newer.known, NULL) == FOREBAY_OK);
  newer.unknown = 1;
  CHECK(forebay_cache_put(cache, "a", 1, "c", 1, &newer.known, NULL) == FOREBAY_UNSUPPORTED);
  CHECK(strstr(forebay_last_error(), "options: byte ") != NULL);
  CHECK(holds(cache, "a", "b"));
  CHECK(forebay_cache_destroy(cache) == FOREBAY_OK);
}

int main(void) {
  test_names();
  test_finding_and_putting();
  test_lines();
  test_time();
  test_loading();
  test_listening();
  test_visiting();
  test_budgets();
  test_saving();
  test_held_entries();
  test_refusals();
  if (failures == 0) puts("all is well");
  return failures == 0 ? 0 : 1;
}
