/* A C program of another project: it must compile as C, link and run. */
#include <forebay/forebay.h>
#include <stdio.h>
#include <string.h>

int main(void) {
  const forebay_cache_options options = {.size = sizeof options, .max_bytes = 1 << 20};
  forebay_cache* cache = NULL;
  forebay_entry entry;
  if (forebay_cache_create(&options, &cache) != FOREBAY_OK ||
      forebay_cache_put(cache, "key", 3, "value", 5, NULL, NULL) != FOREBAY_OK ||
      forebay_cache_find(cache, "key", 3, &entry) != FOREBAY_OK) {
    puts(forebay_last_error());
    return 1;
  }
  const int same = entry.value_size == 5 && memcmp(entry.value, "value", 5) == 0;
  forebay_entry_release(&entry);
  printf("forebay %s\n", forebay_version());
  return same && forebay_cache_destroy(cache) == FOREBAY_OK ? 0 : 1;
}
