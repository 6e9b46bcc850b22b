import type { Config } from '../config/schema.ts'

/** What a gateway process is given when it begins. */
export type Welcome = { number: number; config: Config; version: string; state: MachineState }

/** What the first process knows of the whole machine and the others show. */
export type MachineState = {
  /** What is wrong with the storage; null when nothing is. */
  storageProblem: string | null
  /** Tasks that end in a second. */
  endsPerSecond: number
}

/** How a gateway process says that it serves, or that it can't. */
export type Started = { url: string } | { problem: string; isSetup: boolean }
