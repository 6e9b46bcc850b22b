/**
 * Adds the platform packages that the registry in use does not carry to package-lock.json.
 *
 * npm leaves an optional dependency out of the lock file when its registry (a mirror, say) answers 404, and
 * `npm ci` then refuses the lock file everywhere. The entries written here hold the version, `os` and `cpu`, so
 * that each platform installs its own binary and skips the others. They have no checksum: nobody here saw the file.
 */
import { readFileSync, writeFileSync } from 'node:fs'

type LockEntry = {
  version?: string
  optional?: boolean
  os?: string[]
  cpu?: string[]
  libc?: string[]
  optionalDependencies?: Record<string, string>
}
type Lock = { packages: Record<string, LockEntry> }

const systems: Record<string, string> = {
  aix: 'aix', android: 'android', darwin: 'darwin', freebsd: 'freebsd', linux: 'linux', mac: 'darwin',
  netbsd: 'netbsd', openbsd: 'openbsd', openharmony: 'openharmony', sunos: 'sunos', win: 'win32', win32: 'win32',
} // prettier-ignore
const processors = [
  'arm64',
  'arm',
  'armv7l',
  'ia32',
  'loong64',
  'mips64el',
  'ppc64',
  'riscv64',
  's390x',
  'x64',
]
const libcs: Record<string, string> = { gnu: 'glibc', gnueabihf: 'glibc', musl: 'musl', musleabihf: 'musl' }

/** `@scope/binding-linux-arm64-musl` at `1.2.3` -> what npm would have written for it, or null for no platform package. */
function describePlatformPackage(name: string, version: string): LockEntry | null {
  const words = name.split(/[/-]/)
  const os = words.map((word) => systems[word]).find(Boolean)
  const cpu = words.find((word) => processors.includes(word))
  if (!os || !cpu) return null
  const libc = words.map((word) => libcs[word]).find(Boolean)
  return {
    version,
    cpu: [cpu === 'armv7l' ? 'arm' : cpu],
    ...(libc && os === 'linux' ? { libc: [libc] } : {}),
    optional: true,
    os: [os],
  }
}

const path = new URL('../package-lock.json', import.meta.url)
const lock = JSON.parse(readFileSync(path, 'utf8')) as Lock
let added = 0
for (const entry of Object.values(lock.packages)) {
  for (const [name, range] of Object.entries(entry.optionalDependencies ?? {})) {
    const place = `node_modules/${name}`
    if (lock.packages[place]) continue
    const described = describePlatformPackage(name, range.replace(/^[\^~]/, ''))
    if (!described) {
      console.warn(`${name}@${range} is not in the lock file and names no platform: left out`)
      continue
    }
    lock.packages[place] = described
    added += 1
  }
}
lock.packages = Object.fromEntries(
  Object.entries(lock.packages).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0)),
)
writeFileSync(path, `${JSON.stringify(lock, null, 2)}\n`)
console.log(`${added} platform packages added to package-lock.json`)
