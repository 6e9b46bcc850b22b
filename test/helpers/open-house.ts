import { makeOpenGate } from '../../src/gateway/auth/open-gate.ts'
import { plainTenant } from '../../src/gateway/tenants/tenant-settings.ts'
import { plainAsk } from '../../src/router/call.ts'

/** A gateway that asks nobody who it is, and lets everything in. */
export const openHouse = {
  gate: makeOpenGate([]),
  door: () => plainAsk,
  settingsOf: () => plainTenant,
  rulesOf: () => ({ weight: 1, bandMin: 0, mayUse: () => true }),
}
