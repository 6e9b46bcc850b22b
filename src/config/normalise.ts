import { homedir } from 'node:os'
import { dirname, resolve } from 'node:path'
import type { Static } from 'typebox'
import type { ConfigSchema } from './schema.ts'
import type { Path } from './problem.ts'

/** A configuration while it is being made. */
export type Draft = Static<typeof ConfigSchema>

/** Which folder a relative path at `path` starts from. */
type FolderOf = (path: Path) => string

/** `~/x` is what a shell would have made of it; quotes and YAML files keep shells from doing so. */
function toAbsolute(path: string, folder: string): string {
  const expanded = path === '~' || path.startsWith('~/') ? homedir() + path.slice(1) : path
  return resolve(folder, expanded)
}

/** An empty path stays empty: there is no file. */
const toFile = (path: string, folder: string) => (path === '' ? '' : toAbsolute(path, folder))

/** True for what names a file on this machine, rather than `tiny` or a file of a hub. */
const isPathSource = (source: string) => source !== 'tiny' && !source.startsWith('hf:')

/** `http://host:8000` -> `http://host:8000/v1`; a path that is given stays, without a slash at its end. */
function toBaseUrl(url: string): string {
  const parsed = new URL(url)
  const path = parsed.pathname.replace(/\/+$/, '')
  return `${parsed.origin}${path === '' ? '/v1' : path}`
}

/** One spelling for each thing: absolute paths, base URLs without a slash at the end, header names in lower case. */
export function normalise(draft: Draft, folderOf: FolderOf): Draft {
  return {
    ...draft,
    dataDir: toAbsolute(draft.dataDir, folderOf(['dataDir'])),
    server: {
      ...draft.server,
      tls: {
        ...draft.server.tls,
        certFile: toFile(draft.server.tls.certFile, folderOf(['server', 'tls', 'certFile'])),
        keyFile: toFile(draft.server.tls.keyFile, folderOf(['server', 'tls', 'keyFile'])),
        clientCaFile: toFile(draft.server.tls.clientCaFile, folderOf(['server', 'tls', 'clientCaFile'])),
      },
    },
    auth: {
      ...draft.auth,
      issuers: draft.auth.issuers.map((issuer, at) => ({
        ...issuer,
        jwksFile: toFile(issuer.jwksFile, folderOf(['auth', 'issuers', at, 'jwksFile'])),
      })),
    },
    models: draft.models.map((model, at) => ({
      ...model,
      source: isPathSource(model.source)
        ? toAbsolute(model.source, folderOf(['models', at, 'source']))
        : model.source,
    })),
    upstreams: draft.upstreams.map((upstream) => ({ ...upstream, url: toBaseUrl(upstream.url) })),
    routing: { ...draft.routing, sessionHeader: draft.routing.sessionHeader.toLowerCase() },
  }
}

/** The folder that relative paths of a configuration file start from. */
export const folderOfFile = (file: string) => dirname(file)
