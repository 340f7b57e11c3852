/* A library to be opened and closed: compiled twice, the same but for the size of its frames. */
typedef void (*innermost_t)(void*);

__attribute__((noinline)) static int descend(int depth, innermost_t innermost, void* context) {
  volatile char room[FOREBAY_FRAME_BYTES];
  int count = 0;
  room[0] = (char)depth;
  if (depth == 0) {
    innermost(context);
  } else {
    count = descend(depth - 1, innermost, context);
  }
  return count + room[0];
}

__attribute__((visibility("default"))) int plugin_recurse(int depth, innermost_t innermost,
                                                         void* context) {
  return descend(depth, innermost, context) + 1;
}
