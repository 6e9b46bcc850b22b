import { InstanceMemory } from './instance-memory.ts'
import type { Candidate, Policy } from './policy.ts'

/**
 * Round robin: every instance in turn, whatever it weighs and however busy it is. The turn goes to whoever has
 * waited for it longest rather than to a counter modulo the number of candidates: the candidates change from call to
 * call (a full instance drops out, a failover leaves out those already tried), and a counter then skips the same
 * ones again and again.
 */
export function createRoundRobin(): Policy {
  const lastTurn = new InstanceMemory(() => ({ turn: 0 }))
  let turn = 0

  return {
    pick<C extends Candidate>(candidates: readonly C[]): C {
      let best = candidates[0]!
      let bestEntry = lastTurn.of(best.id, candidates)
      for (let i = 1; i < candidates.length; i += 1) {
        const candidate = candidates[i]!
        const entry = lastTurn.of(candidate.id, candidates)
        if (entry.turn < bestEntry.turn) {
          best = candidate
          bestEntry = entry
        }
      }
      turn += 1
      bestEntry.turn = turn
      return best
    },
  }
}
