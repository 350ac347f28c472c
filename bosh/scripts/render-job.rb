#!/usr/bin/env ruby
# frozen_string_literal: true

# Renders jobs of this release as a BOSH director would, without one: plain Ruby, nothing to install.
#
#   render-job.rb --job NAME --properties FILE [--links FILE] [--spec FILE] --output DIR
#   render-job.rb --manifest FILE [--ops FILE]... [--vars FILE]... [--generate]
#                 [--group NAME] [--index N] [--links FILE] [--root DIR] --output DIR
#   render-job.rb --manifest FILE [--ops FILE]... [--vars FILE]... [--generate] --interpolate
#
# --job         one job with the properties of a YAML or JSON file (keys nested, as in a manifest)
# --manifest    every job of this release in an instance group, after ops files and variables
# --links       {"link name": {"address", "instances": [{"address"}], "properties": {}}}: links from other deployments
# --root DIR    /var/vcap becomes DIR/var/vcap in what is rendered, so that it runs without being root
# --generate    makes values for the manifest's `variables`, as CredHub would
# --interpolate prints the manifest after ops files and variables
#
# Files come to DIR/JOB/..., as they would come to /var/vcap/jobs/JOB/...; monit to DIR/JOB/monit.
# Exit codes: 0 done, 1 a template refuses its properties, 64 usage.

require 'erb'
require 'fileutils'
require 'json'
require 'openssl'
require 'optparse'
require 'securerandom'
require 'yaml'

module Render
  RELEASE = File.expand_path('..', __dir__)

  # A mistake of whoever wrote the input: shown without a stack.
  class Mistake < StandardError; end

  module_function

  def load(file)
    YAML.safe_load(File.read(file), aliases: true, filename: file)
  rescue Psych::Exception, SystemCallError => e
    raise Mistake, "#{file}: #{e.message}"
  end

  # `a.b.c` in nested hashes; nil where there is none.
  def dig(hash, path)
    path.split('.').reduce(hash) { |value, key| value.is_a?(Hash) ? value[key] : nil }
  end

  def put(hash, path, value)
    *parents, last = path.split('.')
    parents.reduce(hash) { |at, key| at[key] ||= {} }[last] = value
  end

  # What a template sees: the methods a director offers, and of the properties only those the spec declares.
  class Context
    Instance = Struct.new(:name, :index, :id, :az, :address, :bootstrap, keyword_init: true)

    # `.else` and `.else_if_p` after `if_p` and `if_link`.
    class Otherwise
      def initialize(context, done)
        @context = context
        @done = done
      end

      def else
        yield unless @done
      end

      def else_if_p(*names, &block)
        @done ? self : @context.if_p(*names, &block)
      end
    end

    # What both a job's own properties and a link's offer.
    module Properties
      MISSING = Object.new.freeze

      def p(names, default = MISSING)
        found = Array(names).map { |name| look(name) }.find { |value| !value.nil? }
        return found unless found.nil?
        return default unless default.equal?(MISSING)

        raise Mistake, "Can't find property '#{Array(names).join("', '")}'#{where}"
      end

      def if_p(*names)
        values = names.map { |name| look(name) }
        present = values.none?(&:nil?)
        yield(*values) if present
        Otherwise.new(self, present)
      end
    end

    class Link
      include Properties

      attr_reader :address, :instances

      def initialize(name, given)
        @name = name
        @address = given['address']
        @instances = (given['instances'] || []).each_with_index.map do |instance, i|
          Instance.new(name: name, index: i, id: i.to_s, az: 'z1', address: instance['address'], bootstrap: i.zero?)
        end
        @properties = given['properties'] || {}
      end

      def look(name)
        Render.dig(@properties, name)
      end

      def where
        " in link '#{@name}'"
      end
    end

    include Properties

    attr_reader :spec, :name, :index

    def initialize(job_spec, given, links, instance)
      @declared = job_spec['properties'] || {}
      @values = given
      @consumed = (job_spec['consumes'] || []).map { |link| link['name'] }
      @links = links
      @name = instance['name']
      @index = instance['index']
      @spec = Struct.new(*instance.keys.map(&:to_sym)).new(*instance.values)
    end

    def look(name)
      declared = @declared.keys.select { |known| known == name || known.start_with?("#{name}.") }
      raise Mistake, "property '#{name}' is not declared in the job's spec" if declared.empty?

      return value_of(name) if @declared.key?(name)

      declared.each_with_object({}) { |known, all| Render.put(all, known.delete_prefix("#{name}."), value_of(known)) }
    end

    def value_of(name)
      given = Render.dig(@values, name)
      given.nil? ? @declared.dig(name, 'default') : given
    end

    def where
      ''
    end

    def link(name)
      raise Mistake, "link '#{name}' is not consumed in the job's spec" unless @consumed.include?(name)

      given = @links[name] or raise Mistake, "Can't find link '#{name}'"
      Link.new(name, given)
    end

    def if_link(name)
      present = @consumed.include?(name) && !@links[name].nil?
      yield(link(name)) if present
      Otherwise.new(self, present)
    end

    def render(file)
      template = ERB.new(File.read(file), trim_mode: '-')
      template.filename = file
      template.result(binding)
    end
  end

  # One job: {"config/x.json" => text, ..., "monit" => text}
  def job(name, properties, links: {}, instance: {}, release: RELEASE)
    folder = File.join(release, 'jobs', name)
    raise Mistake, "there is no job #{name}" unless File.exist?(File.join(folder, 'spec'))

    spec = load(File.join(folder, 'spec'))
    instance = {
      'name' => name, 'index' => 0, 'id' => '00000000-0000-4000-8000-000000000000', 'az' => 'z1', 'bootstrap' => true,
      'address' => '127.0.0.1', 'ip' => '127.0.0.1', 'deployment' => 'test'
    }.merge(instance)
    context = Context.new(spec, properties, links, instance)
    files = (spec['templates'] || {}).to_h { |source, target| [target, File.join(folder, 'templates', source)] }
    files['monit'] = File.join(folder, 'monit') if File.exist?(File.join(folder, 'monit'))
    problems = []
    rendered = files.to_h do |target, source|
      [target, context.render(source)]
    rescue StandardError, SyntaxError => e # a director shows any of them as the template's
      problems << "#{name}/#{File.basename(source)}: #{e.message}"
      [target, nil]
    end
    raise Mistake, problems.join("\n") unless problems.empty?

    rendered
  end

  # Ops files: replace and remove, with `?`, `key=value`, numbers and `-`.
  module Ops
    module_function

    def apply(document, operations, where)
      operations.each do |operation|
        apply_one(document, operation)
      rescue Mistake => e
        raise Mistake, "#{where}: #{operation['path']}: #{e.message}"
      end
      document
    end

    def apply_one(document, operation)
      *parents, last = tokens(operation.fetch('path'))
      at = parents.each_with_index.reduce(document) { |value, (token, i)| step(value, token, (parents[i + 1] || last)) }
      case operation['type']
      when 'replace' then replace(at, last, operation.fetch('value'))
      when 'remove' then remove(at, last)
      else raise Mistake, "operation #{operation['type'].inspect} is neither replace nor remove"
      end
    end

    # From the first `?` on, what is not there is made.
    def tokens(path)
      optional = false
      path.delete_prefix('/').split('/').map do |text|
        optional ||= text.end_with?('?')
        { text: text.delete_suffix('?'), optional: optional }
      end
    end

    def step(value, token, following)
      found = get(value, token)
      return found unless found.nil?
      raise Mistake, "there is no #{token[:text]}" unless token[:optional]

      made = following[:text] == '-' || following[:text].include?('=') ? [] : {}
      put(value, token, made)
    end

    def get(value, token)
      case value
      when Hash then value[token[:text]]
      when Array
        index = position(value, token)
        index && value[index]
      else raise Mistake, "#{token[:text]} is looked for in what is neither a list nor a mapping"
      end
    end

    def position(list, token)
      text = token[:text]
      return text.to_i if text.match?(/\A-?\d+\z/)

      key, wanted = text.split('=', 2)
      raise Mistake, "#{text} selects nothing in a list" if wanted.nil?

      found = list.each_index.select { |i| list[i].is_a?(Hash) && list[i][key].to_s == wanted }
      raise Mistake, "#{text} is there #{found.size} times" if found.size > 1

      found.first
    end

    def put(value, token, new)
      case value
      when Hash then value[token[:text]] = new
      when Array
        text = token[:text]
        if text == '-'
          value << new
        elsif (index = position(value, token))
          value[index] = new
        else
          key, wanted = text.split('=', 2)
          value << (new.is_a?(Hash) ? { key => wanted }.merge(new) : new)
          return value.last
        end
      end
      new
    end

    def replace(at, last, new)
      missing = last[:text] != '-' && get(at, last).nil? && !(at.is_a?(Hash) && at.key?(last[:text]))
      raise Mistake, "there is no #{last[:text]} (a `?` behind it would make it)" if missing && !last[:optional]

      put(at, last, new)
    end

    def remove(at, last)
      if get(at, last).nil?
        return if last[:optional]

        raise Mistake, "there is no #{last[:text]}"
      end
      at.is_a?(Hash) ? at.delete(last[:text]) : at.delete_at(position(at, last))
    end
  end

  # Values for a manifest's variables, as CredHub would make them.
  module Variables
    module_function

    def generate(manifest, given)
      authorities = {}
      (manifest['variables'] || []).each_with_object(given.dup) do |variable, values|
        name = variable['name']
        next if values.key?(name)

        values[name] =
          case variable['type']
          when 'password' then SecureRandom.alphanumeric(variable.dig('options', 'length') || 40)
          when 'certificate' then certificate(variable['options'] || {}, authorities, name)
          else raise Mistake, "variable #{name}: type #{variable['type'].inspect} is not known here"
          end
      end
    end

    def certificate(options, authorities, name)
      key = OpenSSL::PKey::EC.generate('prime256v1')
      certificate = OpenSSL::X509::Certificate.new
      certificate.version = 2
      certificate.serial = SecureRandom.random_number(1 << 60)
      certificate.subject = OpenSSL::X509::Name.new([['CN', options['common_name'] || name]])
      certificate.not_before = Time.now - 3600
      certificate.not_after = Time.now + (365 * 86_400)
      certificate.public_key = key
      signer, signing_key = options['ca'] ? authorities.fetch(options['ca']) : [certificate, key]
      certificate.issuer = signer.subject
      extensions(certificate, signer, options)
      certificate.sign(signing_key, OpenSSL::Digest.new('SHA256'))
      authorities[name] = [certificate, key] if options['is_ca']
      { 'ca' => signer.to_pem, 'certificate' => certificate.to_pem, 'private_key' => key.to_pem }
    end

    def extensions(certificate, signer, options)
      factory = OpenSSL::X509::ExtensionFactory.new(signer, certificate)
      certificate.add_extension(factory.create_extension('basicConstraints', "CA:#{options['is_ca'] ? 'TRUE' : 'FALSE'}", true))
      names = Array(options['alternative_names']).map { |n| n.match?(/\A[\d.]+\z/) ? "IP:#{n}" : "DNS:#{n}" }
      certificate.add_extension(factory.create_extension('subjectAltName', names.join(','))) unless names.empty?
    end

    PLACE = /\(\(!?([-\/.\w]+)\)\)/.freeze

    # Puts values in; names what has none.
    def interpolate(value, values, missing)
      case value
      when Hash then value.to_h { |k, v| [k, interpolate(v, values, missing)] }
      when Array then value.map { |v| interpolate(v, values, missing) }
      when String
        whole = value.match(/\A#{PLACE}\z/)
        return look(whole[1], values, missing) if whole

        value.gsub(PLACE) { look(Regexp.last_match(1), values, missing).to_s }
      else value
      end
    end

    def look(name, values, missing)
      return values[name] if values.key?(name)

      first, rest = name.split('.', 2)
      found = values.key?(first) && rest ? Render.dig(values[first], rest) : nil
      missing << name if found.nil?
      found
    end

    # The names a document asks for.
    def wanted(document)
      missing = []
      interpolate(document, {}, missing)
      missing.uniq
    end
  end

  # A manifest after ops files and variables.
  class Manifest
    attr_reader :document

    def initialize(file, ops: [], vars: [], generate: false)
      @document = Render.load(file)
      ops.each { |ops_file| Ops.apply(@document, Render.load(ops_file), ops_file) }
      values = vars.map { |f| Render.load(f) }.reduce({}, :merge)
      values = Variables.generate(@document, values) if generate
      missing = []
      @document = Variables.interpolate(@document, values, missing)
      raise Mistake, "variables without a value: #{missing.uniq.sort.join(', ')}" unless missing.empty?
    end

    def group(name)
      @document['instance_groups'].find { |group| group['name'] == name } or raise Mistake, "there is no instance group #{name}"
    end

    # Links by the name the consumer uses: what is shared from elsewhere, then what a job of this manifest provides.
    def links_of(job, shared, release)
      spec = Render.load(File.join(release, 'jobs', job['name'], 'spec'))
      (spec['consumes'] || []).each_with_object({}) do |link, links|
        wish = job.fetch('consumes', {}).fetch(link['name'], {})
        next if wish.nil? || wish == 'nil'

        found = wish['deployment'] ? shared[wish['from'] || link['name']] : provided(link, release)
        found ||= shared[link['name']]
        raise Mistake, "#{job['name']}: nobody provides link '#{link['name']}'" if found.nil? && !link['optional']

        links[link['name']] = found if found
      end
    end

    def provided(link, release)
      @document['instance_groups'].each do |group|
        group['jobs'].each do |job|
          next unless job['release'] == 'cf-mysql-broker'

          spec = Render.load(File.join(release, 'jobs', job['name'], 'spec'))
          offer = (spec['provides'] || []).find { |o| o['name'] == link['name'] && o['type'] == link['type'] } or next
          context = Context.new(spec, job['properties'] || {}, {}, { 'name' => group['name'], 'index' => 0 })
          values = (offer['properties'] || []).each_with_object({}) { |name, all| Render.put(all, name, context.value_of(name)) }
          instances = Array.new(group['instances']) { |i| { 'address' => "#{i}.#{group['name']}.internal" } }
          return { 'address' => "#{group['name']}.internal", 'instances' => instances, 'properties' => values }
        end
      end
      nil
    end

    # Every job of this release in a group: {"job/path" => text}
    def render(group_name, index: 0, shared: {}, release: RELEASE)
      group = self.group(group_name)
      instance = { 'name' => group_name, 'index' => index, 'bootstrap' => index.zero?, 'id' => format('00000000-0000-4000-8000-%012d', index) }
      ours = group['jobs'].select { |job| job['release'] == 'cf-mysql-broker' }
      ours.each_with_object({}) do |job, all|
        links = links_of(job, shared, release)
        Render.job(job['name'], job['properties'] || {}, links: links, instance: instance, release: release)
              .each { |path, text| all["#{job['name']}/#{path}"] = text }
      end
    end
  end

  def write(files, output, root)
    files.each do |path, text|
      target = File.join(output, path)
      FileUtils.mkdir_p(File.dirname(target))
      File.write(target, root ? text.gsub('/var/vcap', "#{root}/var/vcap") : text)
      File.chmod(path.include?('/bin/') ? 0o750 : 0o640, target)
    end
  end
end

if $PROGRAM_NAME == __FILE__
  options = { ops: [], vars: [], index: 0 }
  parser = OptionParser.new do |o|
    o.on('--job NAME') { |v| options[:job] = v }
    o.on('--properties FILE') { |v| options[:properties] = v }
    o.on('--links FILE') { |v| options[:links] = v }
    o.on('--spec FILE') { |v| options[:spec] = v }
    o.on('--manifest FILE') { |v| options[:manifest] = v }
    o.on('--ops FILE') { |v| options[:ops] << v }
    o.on('--vars FILE') { |v| options[:vars] << v }
    o.on('--generate') { options[:generate] = true }
    o.on('--interpolate') { options[:interpolate] = true }
    o.on('--group NAME') { |v| options[:group] = v }
    o.on('--index N', Integer) { |v| options[:index] = v }
    o.on('--root DIR') { |v| options[:root] = v }
    o.on('--output DIR') { |v| options[:output] = v }
  end
  begin
    parser.parse!
    usage = ARGV.empty? && (options[:job] || options[:manifest]) && (options[:output] || options[:interpolate])
    raise OptionParser::MissingArgument, 'see the head of this file' unless usage

    links = options[:links] ? Render.load(options[:links]) : {}
    if options[:job]
      properties = options[:properties] ? Render.load(options[:properties]) : {}
      instance = options[:spec] ? Render.load(options[:spec]) : {}
      files = Render.job(options[:job], properties || {}, links: links, instance: instance)
      files = files.transform_keys { |path| "#{options[:job]}/#{path}" }
    else
      manifest = Render::Manifest.new(options[:manifest], **options.slice(:ops, :vars), generate: options[:generate])
      if options[:interpolate]
        puts YAML.dump(manifest.document)
        exit
      end
      files = manifest.render(options[:group] || 'cf-mysql-broker', index: options[:index], shared: links)
    end
    Render.write(files, options[:output], options[:root])
  rescue OptionParser::ParseError => e
    warn "render-job: #{e.message}"
    exit 64
  rescue Render::Mistake => e
    warn e.message
    exit 1
  end
end
