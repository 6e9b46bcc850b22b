import { stringify } from 'yaml'
import { hidePasswordParameter } from './problem.ts'
import type { Config } from './schema.ts'

/**
 * The configuration in effect, as a file that would give the same. It names the variables of keys, never the keys; a
 * password inside a URL is shown as `***`.
 */
export function printConfig(config: Config): string {
  const text = stringify(config, { lineWidth: 0 })
  return hidePasswordParameter(text.replaceAll(/(?<=\/\/[^\s/:@]*:)[^\s/?#]+(?=@)/g, '***'))
}
