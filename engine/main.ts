import { main } from './program.ts'

/** `node engine/main.ts --model PATH --socket PATH …`: what the launcher starts, and `autoglm instance` runs in its own process. */
await main(process.argv.slice(2))
