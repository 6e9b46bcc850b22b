import { existsSync, readFileSync } from 'node:fs'

/** `src/cli/` in a checkout, `dist/src/cli/` in the package: the folder of package.json is two or three up. */
const candidates = ['../../package.json', '../../../package.json']

export function readVersion(): string {
  const url = candidates.map((path) => new URL(path, import.meta.url)).find((path) => existsSync(path))
  if (!url) return 'unknown'
  return (JSON.parse(readFileSync(url, 'utf8')) as { version: string }).version
}
