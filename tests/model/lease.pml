/* The lease algorithm of budgets, for every interleaving of its steps.
 *
 * One root with a limit, two leaves below it, threads that reserve and release. It is
 * src/budget reduced to what could race: leases are changed by compare-and-swap without the
 * lock (Lease::take, Lease::put), everything else under it (exact_room, close_leases,
 * keep_as_lease). Each step that touches a shared word is one step of its own.
 *
 * Checked (run.py):
 *   - never over the limit: at each instant, the bytes reserved (from before the charge is
 *     made until after the release began) fit;
 *   - conservation: charged = reserved + leased, whenever the lock is free and no thread is
 *     half-way; zero leaks at the end;
 *   - no refusal of what fits: when a request is refused, what others really hold at that
 *     instant leaves no room for it;
 *   - no deadlock (an invalid end state).
 *
 * With -DBUG_SPLIT_CLOSE a lease is closed in two steps, first its remainder is read and
 * then it is closed: the known race, which must be found.
 * With -DBUG_NO_REVOKE a refusal does not revoke leases first: a spurious refusal, which
 * must be found too.
 */

#ifndef THREADS
#define THREADS 2
#endif
#define LEAVES 2
#define LIMIT 4
#define CAP 2

byte charged[LEAVES];   /* own bytes of each leaf; guarded by the lock */
byte total;             /* charged at the root; guarded by the lock */
byte cap[LEAVES * THREADS];    /* of each lease; 0: closed. One word with ... */
byte leased[LEAVES * THREADS]; /* ... what is in it */
byte held[THREADS];     /* what each thread holds, by its own count */
bool lock;
byte done;

#define SLOT(leaf, thread) ((leaf) * THREADS + (thread))
#define ACQUIRE atomic { !lock -> lock = true }
#define RELEASE lock = false

byte sum_held, sum_leased;
inline add_up() {
  sum_held = 0; sum_leased = 0; k = 0;
  do
  :: k < THREADS -> sum_held = sum_held + held[k]; k++
  :: else -> break
  od;
  k = 0;
  do
  :: k < LEAVES * THREADS -> sum_leased = sum_leased + leased[k]; k++
  :: else -> break
  od;
  k = 0
}

/* Takes the remainder and closes in one step: Lease::close() is one exchange. */
inline close_lease(s) {
#ifdef BUG_SPLIT_CLOSE
  rest = leased[s];
  atomic { leased[s] = 0; cap[s] = 0 };
#else
  atomic { rest = leased[s]; leased[s] = 0; cap[s] = 0 };
#endif
  charged[s / THREADS] = charged[s / THREADS] - rest;
  total = total - rest;
  rest = 0
}

/* Lease::take: one load, then compare-and-swap until it fails for want of bytes. `held`
 * counts from the swap on, as the caller does. */
inline take(s, n) {
  got = false;
  do
  :: atomic { seen = leased[s]; seen_cap = cap[s] };
     if
     :: n > seen -> break
     :: else ->
        atomic {
          if
          :: leased[s] == seen && cap[s] == seen_cap ->
             leased[s] = leased[s] - n; held[me] = held[me] + n; got = true
          :: else -> skip
          fi
        };
        if :: got -> break :: else -> skip fi
     fi
  od;
  seen = 0; seen_cap = 0
}

inline put(s, n) {
  got = false;
  do
  :: atomic { seen = leased[s]; seen_cap = cap[s] };
     if
     :: n > seen_cap - seen -> break
     :: else ->
        atomic {
          if
          :: leased[s] == seen && cap[s] == seen_cap ->
             leased[s] = leased[s] + n; held[me] = held[me] - n; got = true
          :: else -> skip
          fi
        };
        if :: got -> break :: else -> skip fi
     fi
  od;
  seen = 0; seen_cap = 0
}

inline reserve(leaf, n) {
  take(SLOT(leaf, me), n);
  if
  :: got -> skip
  :: else ->
     ACQUIRE;
     if
     :: total + n <= LIMIT -> skip
     :: else ->
#ifndef BUG_NO_REVOKE
        i = 0;
        do
        :: i < LEAVES * THREADS -> close_lease(i); i++
        :: else -> break
        od;
        i = 0
#else
        skip
#endif
     fi;
     if
     :: total + n <= LIMIT ->
        d_step { total = total + n; charged[leaf] = charged[leaf] + n; held[me] = held[me] + n };
        got = true
     :: else ->
        /* Refused. A release that has begun but not reached a shared word still holds. */
        d_step { add_up(); assert(sum_held + n > LIMIT); sum_held = 0; sum_leased = 0 }
     fi;
     RELEASE
  fi
}

inline release(leaf, n) {
  put(SLOT(leaf, me), n);
  if
  :: got -> skip
  :: else ->
     ACQUIRE;
     if
     :: cap[SLOT(leaf, me)] == 0 && n <= CAP ->
        /* keep_as_lease: the bytes stay charged. When it does so is left open here, so that
         * every rule for it is covered. */
        atomic { cap[SLOT(leaf, me)] = CAP; leased[SLOT(leaf, me)] = n; held[me] = held[me] - n }
     :: true ->
        d_step { total = total - n; charged[leaf] = charged[leaf] - n; held[me] = held[me] - n }
     fi;
     RELEASE
  fi
}

proctype Thread(byte me) {
  byte i, k, seen, seen_cap, rest, round, leaf, bytes;
  bool got;
  do
  :: round < ROUNDS ->
     /* Any leaf; one byte, or more than a lease holds. */
     if :: leaf = 0 :: leaf = 1 fi;
     if :: bytes = 1 :: bytes = 3 fi;
     reserve(leaf, bytes);
     if
     :: got -> got = false; release(leaf, bytes)
     :: else -> skip
     fi;
     got = false; leaf = 0; bytes = 0;
     round++
  :: else -> break
  od;
  done++
}

/* May look between any two steps of the others. */
proctype Observer() {
  byte k;
  do
  :: d_step {
       add_up();
       assert(sum_held <= LIMIT);
       assert(total <= LIMIT);
       assert(lock || total == charged[0] + charged[1]);
       assert(lock || total == sum_held + sum_leased);
       assert(done < THREADS || sum_held == 0);
       sum_held = 0; sum_leased = 0
     }
  :: done == THREADS -> break
  od
}

init {
  byte t;
  atomic {
    do
    :: t < THREADS -> run Thread(t); t++
    :: else -> break
    od;
    run Observer()
  }
}
