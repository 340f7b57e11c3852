/* A cache from C: what is slow to make is made once, survives a restart, and stays under a line. */
#include <forebay/forebay.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Stands for something slow. */
static forebay_status spell(void* context, const void* key, size_t key_size, forebay_value* value) {
  static const char* const names[] = {"zero", "one", "two",   "three", "four",
                                      "five", "six", "seven", "eight", "nine"};
  const char digit = *(const char*)key;
  ++*(int*)context;
  if (key_size != 1 || digit < '0' || digit > '9') {
    return forebay_fail(FOREBAY_USER, "only digits have names here");
  }
  return forebay_value_assign(value, names[digit - '0'], strlen(names[digit - '0']));
}

static void check(forebay_status status) {
  if (status == FOREBAY_OK) return;
  fprintf(stderr, "%s: %s\n", forebay_status_name(status), forebay_last_error());
  exit(1);
}

static forebay_cache* make_cache(forebay_budget* budget) {
  const forebay_cache_options options = {.size = sizeof options,
                                         .name = "names",
                                         .max_bytes = 1 << 20,
                                         .budget = budget,
                                         .content = "names of digits"};
  forebay_cache* cache = NULL;
  check(forebay_cache_create(&options, &cache));
  return cache;
}

/* What `text` asks for, a character at a time. */
static int spell_all(forebay_cache* cache, const char* text) {
  int made = 0;
  for (const char* at = text; *at != '\0'; ++at) {
    forebay_entry entry;
    const forebay_status status =
        forebay_cache_get_or_compute(cache, at, 1, spell, &made, NULL, &entry);
    if (status != FOREBAY_OK) {
      printf("'%c': %s\n", *at, forebay_last_error());
      continue;
    }
    printf("%.*s ", (int)entry.value_size, (const char*)entry.value);
    forebay_entry_release(&entry);
  }
  printf("(%d made)\n", made);
  return made;
}

int main(int count, char** arguments) {
  const char* const path = count > 1 ? arguments[1] : "names.cache";
  forebay_budget* budget = NULL;
  check(forebay_budget_create("process", 64 << 20, &budget));

  forebay_cache* cache = make_cache(budget);
  spell_all(cache, "3141592653");
  spell_all(cache, "x");
  forebay_saved saved = {.size = sizeof saved};
  check(forebay_cache_save(cache, path, &saved));
  check(forebay_cache_destroy(cache));

  /* As if the process had been started again. */
  cache = make_cache(budget);
  check(forebay_cache_load(cache, path, NULL, NULL));
  spell_all(cache, "3141592653");
  forebay_cache_stats stats = {.size = sizeof stats};
  check(forebay_cache_get_stats(cache, &stats));
  printf("saved %d, hit rate after loading %.2f\n", (int)saved.entries,
         (double)stats.hits / (double)stats.lookups);

  check(forebay_cache_destroy(cache));
  check(forebay_budget_destroy(budget));
  return remove(path);
}
