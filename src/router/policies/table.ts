import type { PolicyName } from '../../config/schema.ts'
import { createLeastConn } from './least-conn.ts'
import { createPeakEwma } from './peak-ewma.ts'
import type { PolicyFactory } from './policy.ts'
import { createPrefix } from './prefix.ts'
import { createRoundRobin } from './round-robin.ts'
import { createSession } from './session.ts'
import { createWeighted } from './weighted.ts'

/** Every policy that the configuration can name. */
export const policyFactories: Readonly<Record<PolicyName, PolicyFactory>> = {
  peak_ewma: createPeakEwma,
  least_conn: createLeastConn,
  round_robin: createRoundRobin,
  weighted: createWeighted,
  prefix: () => createPrefix(),
  session: () => createSession(),
}
