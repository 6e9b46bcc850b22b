import { Socket } from 'node:net'
import { setFlagsFromString } from 'node:v8'

/** The entry of a gateway process, which `processes/gateway-processes.ts` starts. */

// As in main.ts, and for the same reason.
setFlagsFromString('--no-allocation-site-pretenuring')

const wireDescriptor = 4
const { Wire } = await import('./core/wire.ts')
const { runGateway } = await import('./app-gateway.ts')
await runGateway(new Wire(new Socket({ fd: wireDescriptor })))
