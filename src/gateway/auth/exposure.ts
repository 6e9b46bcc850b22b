import { isIP } from 'node:net'
import type { Config } from '../../config/schema.ts'
import { commandName } from '../../core/command-name.ts'
import { SetupError } from '../../core/errors.ts'

/** Works while no server runs on the storage. */
export const firstKeyCommand = `${commandName} key create --direct --tenant default --role admin`

/** Whether only this machine reaches an address. */
export function isLoopback(host: string): boolean {
  if (host.toLowerCase() === 'localhost' || host === '::1') return true
  return isIP(host) === 4 && host.startsWith('127.')
}

/** Throws SetupError for a server that would let in anybody who reaches it. */
export function refuseOpenDoor({ server, auth }: Pick<Config, 'server' | 'auth'>): void {
  if (auth.required || isLoopback(server.host)) return
  throw new SetupError(
    `server.host ${server.host} is reached from other machines, and auth.required is off: anybody there could use ` +
      'the models, and read and change what is kept.\n' +
      'Either listen on this machine alone (server.host: 127.0.0.1, or --host 127.0.0.1),\n' +
      `or set auth.required: true and make the first key: ${firstKeyCommand}\n` +
      '(with the same --config, --data-dir or --storage as the server)',
  )
}
