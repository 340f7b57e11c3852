/* The life of a cache entry's number, for every interleaving of its steps.
 *
 * One header, whose number is given again and again; readers who have the number from a look at
 * the table some time ago, a writer who evicts, erases and puts, a mover who puts a copy in the
 * place of what is there. It is src/cache/headers.hpp reduced to what could race: the state word changes by one atomic operation at a time, the
 * lock guards the flags but not the pins.
 *
 * Checked (run.py):
 *   - who has pinned a live entry never reads it after its end;
 *   - each entry is destroyed once;
 *   - at the end none is left behind: doomed, with nobody to destroy it;
 *   - no deadlock (an invalid end state).
 *
 * With -DBUG_LOOK_FIRST a reader looks whether the entry is live, and then pins it.
 * With -DBUG_BLIND_UNPIN a pin that did not count is taken back without a look at what it left.
 * With -DBUG_MOVE_PINNED the mover does not look whether others have the entry pinned.
 */

#ifndef READERS
#define READERS 2
#endif
#ifndef ROUNDS
#define ROUNDS 2
#endif

byte pins;      /* of the state word ... */
bool live, doomed, claimed; /* ... as these are: changed together, in one step */
byte block;     /* where key and value are: 0 or 1 */
bool alive[2];  /* made, and not destroyed */
bool lock;
byte done;

#define ACQUIRE atomic { !lock -> lock = true }
#define RELEASE lock = false

inline destroy() {
  assert(alive[block]);
  alive[block] = false;
  ACQUIRE;
  d_step { live = false; doomed = false; claimed = false };
  RELEASE
}

/* Takes a pin back; whoever leaves a doomed entry without pins tries to claim it. */
inline unpin() {
  d_step { last = (pins == 1) && doomed; pins = pins - 1 };
  if
  :: last ->
     d_step { won = doomed && !claimed && pins == 0; doomed = doomed && !won; claimed = claimed || won };
     if
     :: won -> destroy()
     :: else -> skip
     fi
  :: else -> skip
  fi;
  last = false; won = false
}

proctype Reader() {
  byte round, mine;
  bool was_live, last, won;
  do
  :: round < ROUNDS ->
#ifdef BUG_LOOK_FIRST
     was_live = live;
     pins = pins + 1;
#else
     d_step { was_live = live; pins = pins + 1 };
#endif
     if
     :: was_live ->
        mine = block;
        assert(alive[mine]);
        assert(alive[mine]);
        unpin()
     :: else ->
#ifdef BUG_BLIND_UNPIN
        pins = pins - 1
#else
        unpin()
#endif
     fi;
     was_live = false;
     mine = 0;
     round++
  :: else -> break
  od;
  done++
}

proctype Writer() {
  byte round;
  bool mine, last, won;
  do
  :: round < ROUNDS ->
     /* A put, if the number is free. */
     ACQUIRE;
     if
     :: !live && !doomed && !claimed -> alive[block] = true; live = true
     :: else -> skip
     fi;
     RELEASE;
     ACQUIRE;
     if
     :: live ->
        if
        :: d_step { mine = (pins == 0); live = !mine; claimed = mine } /* evicted, unless pinned */
        :: d_step { mine = (pins == 0); live = false; claimed = mine; doomed = !mine } /* erased */
        fi
     :: else -> skip
     fi;
     RELEASE;
     if
     :: mine -> destroy()
     :: else -> skip
     fi;
     mine = false;
     round++
  :: else -> break
  od;
  done++
}

/* While it is being moved an entry is not live: a reader who comes by waits for the lock, which
 * is no step of its own here. */
proctype Mover() {
  byte from;
  bool mine, moved, last, won;
  d_step { mine = live && pins == 0; pins = pins + 1 };
  if
  :: mine ->
     from = block;
     assert(alive[from]);
     alive[1 - from] = true;
     ACQUIRE;
#ifdef BUG_MOVE_PINNED
     d_step { moved = live; live = live && !moved };
#else
     d_step { moved = live && pins == 1; live = live && !moved };
#endif
     if
     :: moved -> block = 1 - from; live = true
     :: else -> skip
     fi;
     RELEASE;
     if
     :: moved -> alive[from] = false
     :: else -> alive[1 - from] = false
     fi
  :: else -> skip
  fi;
  unpin();
  done++
}

init {
  byte t;
  atomic {
    do
    :: t < READERS -> run Reader(); t++
    :: else -> break
    od;
    run Writer();
    run Mover()
  }
  done == READERS + 2;
  assert(pins == 0);
  assert(!doomed && !claimed);
  assert(alive[block] == live && !alive[1 - block])
}
