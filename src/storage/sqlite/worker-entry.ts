/**
 * Where the storage thread begins, for processes that began without a cache of compiled code: tests. Those that
 * src/main.ts starts tell their threads of it (NODE_COMPILE_CACHE), and no compiler is loaded here.
 */
import { enableCompileCache } from 'node:module'

enableCompileCache()
await import('./worker.ts')
