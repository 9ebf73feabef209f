/** Where a member of a crowd stands. */
export interface Place<T> {
  readonly member: T;
  /** -1 when it has left. */
  at: number;
}

/**
 * Those that are there at present, in no order, of whom very many come and go. A Set moves to a new table again and again
 * then, and each table leads to the next one: once V8 takes one of them for old, it finds all that come later alive, with
 * every member that they had, until it collects its whole heap.
 */
export class Crowd<T> implements Iterable<T> {
  readonly #places: Place<T>[] = [];

  get size(): number {
    return this.#places.length;
  }

  join(member: T): Place<T> {
    const place = { member, at: this.#places.length };
    this.#places.push(place);
    return place;
  }

  /** Returns whether it was there. */
  leave(place: Place<T> | null): boolean {
    if (place === null || place.at === -1) return false;
    const { at } = place;
    place.at = -1;
    const last = this.#places.pop();
    if (last !== undefined && last !== place) {
      this.#places[at] = last;
      last.at = at;
    }
    return true;
  }

  /** Those that leave meanwhile are left out, if their turn has not come; those that come meanwhile have none. */
  *[Symbol.iterator](): Iterator<T> {
    for (const place of [...this.#places]) if (place.at !== -1) yield place.member;
  }
}
