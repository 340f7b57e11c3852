/* The C door: caches, and the budgets that they are charged to.
 *
 *   forebay_cache_options options = {.size = sizeof options, .max_bytes = 64 << 20};
 *   forebay_cache* cache = NULL;
 *   if (forebay_cache_create(&options, &cache) != FOREBAY_OK) puts(forebay_last_error());
 *   forebay_cache_put(cache, "key", 3, value, value_size, NULL, NULL);
 *   forebay_entry entry;
 *   if (forebay_cache_find(cache, "key", 3, &entry) == FOREBAY_OK) {
 *     use(entry.value, entry.value_size);
 *     forebay_entry_release(&entry);
 *   }
 *   forebay_cache_destroy(cache);
 *
 * What a cache promises is in cache.hpp; here keys and values are bytes, which are copied in.
 *
 * Errors: whatever can fail returns a status; all but FOREBAY_OK leave what they were to change as
 * it was and what they were to fill in untouched (but for entries, which are then empty), and
 * forebay_last_error() says why. No exception leaves these functions.
 *
 * Options and figures: the caller sets `size` to sizeof of the structure. All other fields of
 * options may be 0 for what is said there; so `{.size = sizeof options}` are the defaults. A
 * program that was built with an older header goes on working; one with a newer header too, as
 * long as it leaves fields that this library does not know at 0.
 *
 * Thread safety: all functions may be called from any thread at any time, but destroy, which is
 * the last call for its object. A forebay_entry is used by one thread at a time.
 *
 * Callbacks run with no lock held, on a thread that is in a call to the same object or, for what
 * expired, on one of the library's own; they may call any function here (but destroy).
 */
#ifndef FOREBAY_FOREBAY_H_
#define FOREBAY_FOREBAY_H_

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#pragma GCC visibility push(default)
#ifdef __cplusplus
extern "C" {
#endif

/* NOLINTBEGIN(readability-identifier-naming, modernize-*): names and forms of C. */

/* Outcomes. Numbers stay what they are. */
typedef int32_t forebay_status;
enum {
  FOREBAY_OK = 0,
  FOREBAY_INVALID_ARGUMENT = 1,    /* a value is not allowed */
  FOREBAY_NOT_FOUND = 2,           /* a key or file is not there */
  FOREBAY_CORRUPT_DATA = 3,        /* a file does not hold what it should */
  FOREBAY_MEMORY_REFUSED = 4,      /* it does not fit, or the system has no more */
  FOREBAY_FAILED_PRECONDITION = 5, /* not now: something is held, or not empty */
  FOREBAY_UNSUPPORTED = 6,         /* options of a newer library are set */
  FOREBAY_IO_ERROR = 7,            /* the system said no */
  FOREBAY_INTERRUPTED = 8,
  FOREBAY_USER = 1000 /* from here on: for loaders, which may fail with any number */
};

/* "0.1.0" */
const char* forebay_version(void);
/* "ok", "invalid_argument", ...; "user" from FOREBAY_USER on; "unknown" for what is none. */
const char* forebay_status_name(forebay_status status);
/* One line for the latest call on this thread that failed; empty: none did. Valid until the next
 * one that fails, on this thread. */
const char* forebay_last_error(void);
/* Sets that line, cut after 1000 bytes, and returns `status`: for loaders. NULL: an empty line. */
forebay_status forebay_fail(forebay_status status, const char* text);

/* Budgets: a line that several caches share. */

typedef struct forebay_budget forebay_budget;

typedef struct forebay_budget_stats {
  size_t size;
  uint64_t limit;
  uint64_t used;      /* reserved by owners */
  uint64_t peak;      /* highest, with what threads hold for their next reservations */
  uint64_t available; /* could be reserved now without asking anybody to give back */
  uint64_t denials;   /* reservations refused */
} forebay_budget_stats;

/* `name`: for messages. `limit`: bytes; UINT64_MAX: none. */
forebay_status forebay_budget_create(const char* name, uint64_t limit, forebay_budget** budget);
/* FOREBAY_FAILED_PRECONDITION while a cache is charged to it. NULL: nothing to do. */
forebay_status forebay_budget_destroy(forebay_budget* budget);
forebay_status forebay_budget_set_limit(forebay_budget* budget, uint64_t limit);
forebay_status forebay_budget_get_stats(const forebay_budget* budget, forebay_budget_stats* stats);

/* Caches. */

typedef struct forebay_cache forebay_cache;

typedef int32_t forebay_removal;
enum {
  FOREBAY_EVICTED = 0,
  FOREBAY_EXPIRED = 1,
  FOREBAY_ERASED = 2,
  FOREBAY_REPLACED = 3,
  FOREBAY_CLEARED = 4
};
/* Told of each entry that leaves, before it is destroyed. */
typedef void (*forebay_removal_listener)(void* context, const void* key, size_t key_size,
                                         const void* value, size_t value_size,
                                         forebay_removal reason);

typedef struct forebay_cache_options {
  size_t size;
  const char* name;       /* for messages; NULL: "cache" */
  uint64_t max_bytes;     /* 0: 64 MiB */
  uint64_t max_entries;   /* 0: without bound */
  const char* policy;     /* NULL: "lru"; see docs/caches.md */
  const char* objective;  /* "objects", "bytes" or "cost"; NULL: "objects" */
  uint64_t seed;          /* of policies that draw; 0: 1 */
  uint64_t max_age_ns;    /* no entry gets older; 0: without end */
  uint32_t shards;        /* a power of two; 0: by cores and max_bytes */
  int32_t priority;       /* among the caches of a budget: lower gives back first */
  forebay_budget* budget; /* also charged; outlives the cache; NULL: none */
  forebay_removal_listener listener;
  void* listener_context;
  /* Nanoseconds since any start, never less than before. NULL: the machine's monotonic clock, and
   * then a thread of the library frees what expired. */
  uint64_t (*clock)(void* context);
  void* clock_context;
  /* What keys and values are: a saved file says it, and one that says something else is refused.
   * NULL: nothing. */
  const char* content;
} forebay_cache_options;

forebay_status forebay_cache_create(const forebay_cache_options* options, forebay_cache** cache);
/* Empties it and ends it. FOREBAY_FAILED_PRECONDITION if entries are held: then it is emptied, and
 * stays; release them and call it again. (One that it had no room for is not seen: see
 * forebay_cache_get_or_compute.) NULL: nothing to do. */
forebay_status forebay_cache_destroy(forebay_cache* cache);

/* An entry that is held: key and value stay as they are, at these addresses, until it is released,
 * even if the cache lets it go meanwhile. Addresses are multiples of 8. */
typedef struct forebay_entry {
  const void* key; /* NULL: there is none */
  size_t key_size;
  const void* value;
  size_t value_size;
  void* pin[3]; /* the library's */
} forebay_entry;

/* Every entry that was filled in wants this once; a second time, or for an empty one, it does
 * nothing. Before the cache is destroyed. */
void forebay_entry_release(forebay_entry* entry);

typedef struct forebay_put_options {
  size_t size;
  uint64_t ttl_ns;         /* 0: max_age_ns. At most 200 days */
  float cost_us;           /* to make it again; 0: 1, or what its loader took */
  float utility;           /* a score; for policies that use one, higher stays longer */
  uint64_t failure_ttl_ns; /* for how long a loader's failure is the answer of others too */
} forebay_put_options;

typedef int32_t forebay_put_outcome;
enum {
  FOREBAY_INSERTED = 0,
  FOREBAY_PUT_REPLACED = 1,
  FOREBAY_PRESENT = 2, /* put_if_absent: it was there, and nothing changed */
  FOREBAY_DECLINED = 3 /* worth less to the policy than what is in */
};

/* FOREBAY_NOT_FOUND if it is not there, or past its time: then forebay_last_error() stays as it
 * was. */
forebay_status forebay_cache_find(forebay_cache* cache, const void* key, size_t key_size,
                                  forebay_entry* entry);
/* `options` and `outcome` may be NULL. FOREBAY_MEMORY_REFUSED if what could be evicted does not
 * make room. */
forebay_status forebay_cache_put(forebay_cache* cache, const void* key, size_t key_size,
                                 const void* value, size_t value_size,
                                 const forebay_put_options* options, forebay_put_outcome* outcome);
forebay_status forebay_cache_put_if_absent(forebay_cache* cache, const void* key, size_t key_size,
                                           const void* value, size_t value_size,
                                           const forebay_put_options* options,
                                           forebay_put_outcome* outcome);

/* What a loader makes. */
typedef struct forebay_value forebay_value;
/* Gives it this size; *bytes is where it is to be written, until the next call. */
forebay_status forebay_value_resize(forebay_value* value, size_t size, void** bytes);
forebay_status forebay_value_assign(forebay_value* value, const void* bytes, size_t size);

/* Makes the value of a key; without a call to forebay_value_..., an empty one. What it returns but
 * FOREBAY_OK is the status of all who wait for that key. */
typedef forebay_status (*forebay_loader)(void* context, const void* key, size_t key_size,
                                         forebay_value* value);
/* What find gives, or else what the loader makes: one at a time for a key, others wait for it. A
 * value that the cache has no room for belongs to its entry alone. `options` may be NULL. */
forebay_status forebay_cache_get_or_compute(forebay_cache* cache, const void* key, size_t key_size,
                                            forebay_loader loader, void* context,
                                            const forebay_put_options* options,
                                            forebay_entry* entry);

/* `erased`, if not NULL: whether it was there. */
forebay_status forebay_cache_erase(forebay_cache* cache, const void* key, size_t key_size,
                                   bool* erased);
forebay_status forebay_cache_clear(forebay_cache* cache);
/* A new line; above it entries are evicted before this returns. Not 0. */
forebay_status forebay_cache_set_max_bytes(forebay_cache* cache, uint64_t max_bytes);
/* Evicts until `goal` bytes are free or nothing is left; `freed` may be NULL. */
forebay_status forebay_cache_reclaim(forebay_cache* cache, uint64_t goal, uint64_t* freed);
/* Frees what is past its time; `count`, if not NULL: how many entries. */
forebay_status forebay_cache_cleanup_expired(forebay_cache* cache, uint64_t* count);

typedef struct forebay_cache_stats {
  size_t size;
  uint64_t used; /* bytes charged now */
  uint64_t peak;
  uint64_t max_bytes;
  uint64_t entries;
  uint64_t pinned; /* met by an eviction while held, or gone and still held */
  uint64_t lookups;
  uint64_t hits;
  uint64_t misses;
  uint64_t stale; /* of the misses: past its time */
  uint64_t insertions;
  uint64_t declined;
  uint64_t refused;
  uint64_t evicted;
  uint64_t expired;
  uint64_t erased;
  uint64_t replaced;
  uint64_t cleared;
  uint64_t loads;
  uint64_t load_failures;
  uint64_t loads_shared; /* calls that another's loader answered */
  uint64_t load_time_ns;
} forebay_cache_stats;

forebay_status forebay_cache_get_stats(const forebay_cache* cache, forebay_cache_stats* stats);

/* Called for each entry; false ends it. */
typedef bool (*forebay_visitor)(void* context, const void* key, size_t key_size, const void* value,
                                size_t value_size);
/* All entries that are in when it is called, each held until it returns. */
forebay_status forebay_cache_each(forebay_cache* cache, forebay_visitor visitor, void* context);

/* Saving and loading: see cache.hpp. */

typedef struct forebay_saved {
  size_t size;
  uint64_t entries;
  uint64_t file_bytes;
} forebay_saved;

typedef struct forebay_load_options {
  size_t size;
  bool down_for_given;  /* false: entries have aged by the wall clock since they were saved */
  uint64_t down_for_ns; /* else by this */
} forebay_load_options;

typedef struct forebay_loaded {
  size_t size;
  uint64_t loaded;
  uint64_t expired;
  uint64_t did_not_fit;
  uint64_t present;
} forebay_loaded;

/* The file is whole or absent. `saved` may be NULL. */
forebay_status forebay_cache_save(forebay_cache* cache, const char* path, forebay_saved* saved);
/* Into an empty cache; after a failure it is empty. `options` and `loaded` may be NULL. */
forebay_status forebay_cache_load(forebay_cache* cache, const char* path,
                                  const forebay_load_options* options, forebay_loaded* loaded);

/* NOLINTEND(readability-identifier-naming, modernize-*) */

#ifdef __cplusplus
}
#endif
#pragma GCC visibility pop

#endif /* FOREBAY_FOREBAY_H_ */
