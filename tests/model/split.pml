/* Buckets of the cache's table that are split and joined while readers look, for every
 * interleaving of their steps.
 *
 * A key that is in the table all the time; a writer who moves it to another bucket and back, and
 * tidies the chain that it is in. It is src/cache/table.cpp reduced to the order of its stores.
 *
 * Checked (run.py): no reader finds nothing and believes it.
 *
 * With -DBUG_NO_CHECK a reader believes what it saw without asking whether the shape changed.
 * With -DBUG_CLEAR_FIRST an entry leaves its old place before the shape changes.
 * With -DBUG_LATE_CHANGE it does so when it moves along its chain: that was in the first version.
 */

#ifndef READERS
#define READERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

/* Slots: of the first bucket, of its overflow bucket, of the bucket that it is split into. */
bool slot[3];
byte changes; /* the shape: how often it changed ... */
bool split;   /* ... and the number of buckets, in one word */
byte done;

proctype Writer() {
  byte round;
  do
  :: round < ROUNDS ->
     slot[2] = true;
#ifdef BUG_CLEAR_FIRST
     slot[0] = false; slot[1] = false;
#endif
     d_step { changes++; split = true };
     slot[0] = false;
     slot[1] = false;
     /* Joined again: into the overflow bucket, as if the first were full ... */
     slot[1] = true;
     d_step { changes++; split = false };
     slot[2] = false;
     /* ... and from there into the first, which readers have passed already. */
     slot[0] = true;
#ifdef BUG_LATE_CHANGE
     slot[1] = false;
     changes++;
#else
     changes++;
     slot[1] = false;
#endif
     round++
  :: else -> break
  od;
  done++
}

proctype Reader() {
  byte seen;
  bool seen_split, found;
  do
  :: d_step { seen = changes; seen_split = split };
     if
     :: seen_split -> found = slot[2]
     :: else ->
        found = slot[0];
        if
        :: !found -> found = slot[1]
        :: else -> skip
        fi
     fi;
     if
     :: found -> break
     :: else ->
#ifdef BUG_NO_CHECK
        assert(false)
#else
        assert(changes != seen)
#endif
     fi
  od;
  done++
}

init {
  byte t;
  atomic {
    slot[0] = true;
    do
    :: t < READERS -> run Reader(); t++
    :: else -> break
    od;
    run Writer()
  }
  done == READERS + 1
}
