import { duplexPair } from 'node:stream'
import { Wire } from '../../src/core/wire.ts'

/** Two processes' ends of a wire, in one. Everything crosses it in bytes, as it does between processes. */
export function joinWires(options: { asksMax?: number } = {}): [Wire, Wire] {
  const [one, other] = duplexPair()
  return [new Wire(one, options), new Wire(other, options)]
}

/** Until what was sent by now has arrived, and what that led to has been answered. */
export async function arrived(...wires: readonly Wire[]): Promise<void> {
  for (const wire of wires) {
    await wire.ask('nobody answers this', null).catch(() => {})
  }
}
