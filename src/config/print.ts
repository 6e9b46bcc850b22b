import { stringify } from 'yaml'
import type { Config } from './schema.ts'

/**
 * The configuration in effect, as a file that would give the same. It names the variables of keys, never the keys; a
 * password inside a URL is shown as `***`.
 */
export function printConfig(config: Config): string {
  return stringify(config, { lineWidth: 0 }).replaceAll(/(?<=\/\/[^\s/:@]*:)[^\s/@]+(?=@)/g, '***')
}
