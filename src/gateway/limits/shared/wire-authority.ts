import type { Wire } from '../../../core/wire.ts'
import type { Answer, Ask, Authority } from './authority.ts'
import type { MemoryAuthority } from './memory-authority.ts'

/** The authority in the first process of this machine, from the others. */
export class WireAuthority implements Authority {
  readonly title = 'the first process of this machine'
  readonly #wire: Wire

  constructor(wire: Wire) {
    this.#wire = wire
  }

  /** The wire is there for as long as this process is. */
  open(): Promise<void> {
    return Promise.resolve()
  }

  decide(ask: Ask): Promise<Answer> {
    return this.#wire.ask<Answer>('limits', ask)
  }

  close(): void {}
}

/** Answers for the authority. A process that is gone keeps nothing: its slots are free at once, its leases end by themselves. */
export function hostLimits(wire: Wire, authority: MemoryAuthority): void {
  let replica: string | null = null
  wire.on('limits', (ask: Ask) => {
    replica = ask.replica
    return authority.decideNow(ask)
  })
  void wire.closed.then(() => {
    if (replica !== null) authority.decideNow({ replica, bye: true, items: [] })
  })
}
