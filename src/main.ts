#!/usr/bin/env -S MALLOC_ARENA_MAX=1 node --max-semi-space-size=16
/** The entry. It imports nothing before it knows that this Node can run the rest. */

const required = { major: 22, minor: 19 }

const [major = 0, minor = 0] = process.versions.node.split('.').map(Number)
if (major < required.major || (major === required.major && minor < required.minor)) {
  process.stderr.write(
    `error: Node ${required.major}.${required.minor} or later is needed, and this is ${process.versions.node}.\n` +
      'In a checkout, npm scripts bring their own: npm ci && npm start. Elsewhere: https://nodejs.org/download\n',
  )
  process.exit(1)
}

// V8 learns which objects live long and makes those in the old generation at once. Under load it learns it of what one
// request needs, and each such object, dead, keeps all it points to alive until the next full collection: half of the
// gateway's garbage was promoted that way, at a seventh of its CPU time (docs/benchmarks.md).
const { setFlagsFromString } = await import('node:v8')
setFlagsFromString('--no-allocation-site-pretenuring')

// Later starts take the compiled code from the cache of Node's own: half a second sooner, and 20 MB smaller. Threads
// and children know of it by the environment, from their first file on. npm's scripts name it there for this process
// too: this file is TypeScript, and without the cache the compiler that Node loads for it stays, another 20 MB.
const { enableCompileCache } = await import('node:module')
const path = await import('node:path')
const { directory } = enableCompileCache()
if (directory !== undefined) process.env['NODE_COMPILE_CACHE'] ??= path.dirname(directory)

const { runCommandLine } = await import('./cli/program.ts')
process.exitCode = await runCommandLine(process.argv.slice(2))
